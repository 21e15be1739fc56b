"""From a grid to its cells: names, order, what is shared, and what is wrong."""

import pytest

from audio_lottery import shipped
from audio_lottery.commands.compare import parse_grid
from audio_lottery.config import ArmConfig, GridConfig
from audio_lottery.errors import ConfigError
from audio_lottery.grid.cells import plan_cells
from audio_lottery.grid.launch import command

THETA = {"train": [{"corpus": "mini-libri", "split": "train-clean"}], "dev": [{"corpus": "mini-libri", "split": "dev"}]}


def grid(**changes) -> GridConfig:
    fields = {"arms": {"a": ArmConfig()}, "out": "runs/g", "configs": ["conformer_mini"], "seeds": [1, 2]}
    return GridConfig(**{**fields, **changes})


def test_an_arm_has_a_search_for_every_seed_and_one_theta():
    cells = plan_cells(grid(arms={"zero": ArmConfig(), "libri": ArmConfig(pretrain=THETA)}, settings={"seed": 9}))
    assert [cell.name for cell in cells] == ["zero-seed1", "zero-seed2", "libri-theta", "libri-seed1", "libri-seed2"]
    theta, first = cells[2], cells[3]
    assert theta.is_theta
    assert theta.config.theta.train[0].corpus == "mini-libri"
    assert theta.config.theta.training.learning_rate == 3e-3, "the config's own training of θ"
    assert first.needs == ("libri-theta",)
    assert first.config.model.init == "runs/g/libri-theta/theta"
    assert first.config.theta.train == ()
    assert [cell.config.seed for cell in cells] == [1, 2, 1, 1, 2]
    assert first.config.run_dir == "runs/g/libri-seed1"


def test_settings_win_in_the_order_grid_arm():
    arms = {"a": ArmConfig(settings={"training": {"max_steps": 3}}), "b": ArmConfig()}
    first, _, other, _ = plan_cells(grid(arms=arms, settings={"training": {"max_steps": 2}, "search": {"rounds": 1}}))
    assert (first.config.training.max_steps, other.config.training.max_steps) == (3, 2)
    assert first.config.search.rounds == other.config.search.rounds == 1


def test_tickets_of_an_arm_come_after_it_seed_by_seed():
    arms = {
        "random": ArmConfig(tickets_of="imp", settings={"pruning": {"control": "random_layers"}}),
        "imp": ArmConfig(),
    }
    cells = plan_cells(grid(arms=arms))
    assert [cell.name for cell in cells] == ["imp-seed1", "imp-seed2", "random-seed1", "random-seed2"]
    assert cells[3].needs == ("imp-seed2",)
    assert cells[3].config.pruning.ticket == "runs/g/imp-seed2"


def test_controls_start_where_the_tickets_did():
    control = {"pruning": {"control": "random_layers"}}
    arms = {
        "libri": ArmConfig(pretrain={"train": [{"corpus": "mini-libri", "split": "train-clean"}]}),
        "zero": ArmConfig(),
        "random": ArmConfig(tickets_of="libri", settings=control),
        "random_zero": ArmConfig(tickets_of="zero", settings=control),
        "transfer": ArmConfig(tickets_of="libri", theta_of="zero"),
        "elsewhere": ArmConfig(tickets_of="libri", settings={"model": {"init": "conformer-small"}}),
        "demo": ArmConfig(tickets_of="libri", configs=["methods/random_layers"]),  # names a θ itself
        "dense": ArmConfig(theta_of="libri", settings={"pruning": {"control": "dense"}}),
    }
    cells = {cell.name: cell for cell in plan_cells(grid(arms=arms))}
    starts = {name: (cell.config.model.init, set(cell.needs)) for name, cell in cells.items() if "seed2" in name}
    theta = "runs/g/libri-theta/theta"
    assert starts["libri-seed2"] == (theta, {"libri-theta"})
    assert starts["random-seed2"] == (theta, {"libri-theta", "libri-seed2"})
    assert starts["random_zero-seed2"] == ("runs/g/zero-seed2/theta", {"zero-seed2"})
    assert starts["transfer-seed2"] == ("runs/g/zero-seed2/theta", {"zero-seed2", "libri-seed2"})
    assert starts["elsewhere-seed2"] == ("conformer-small", {"libri-seed2"})
    assert starts["demo-seed2"] == ("runs/demo/theta", {"libri-seed2"})
    assert starts["dense-seed2"] == (theta, {"libri-theta"})
    assert not cells["random-seed2"].config.theta.train


def test_a_search_is_a_process_of_its_own_or_an_accelerate_job():
    plain, several = grid(), grid(accelerate=["--num_processes", "2"])
    cell = plan_cells(plain)[0]
    assert command(plain, cell)[1:4] == ["-m", "audio_lottery.cli", "search"]
    assert command(several, cell)[1:5] == ["-m", "accelerate.commands.launch", "--num_processes", "2"]
    assert command(several, cell)[5:8] == ["-m", "audio_lottery.cli", "search"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"arms": {}}, "needs arms"),
        ({"seeds": []}, "seeds: at least one"),
        ({"seeds": [1, 1]}, "each once"),
        ({"arms": {"a/b": ArmConfig()}}, "arm 'a/b': letters"),
        ({"arms": {"..": ArmConfig(), "a--b": ArmConfig()}}, "arm 'a--b': letters"),
        ({"arms": {"a": ArmConfig(tickets_of="b")}}, "arm 'a': tickets_of names 'b'; arms are a"),
        ({"arms": {"a": ArmConfig(), "b": ArmConfig(tickets_of="a", configs=["gmpp"])}}, "arm 'b': gmpp: .*/gmp"),
        ({"arms": {"a": ArmConfig(theta_of="b")}}, "arm 'a': theta_of names 'b'; arms are a"),
        ({"arms": {"a": ArmConfig(), "b": ArmConfig(pretrain={}, theta_of="a")}}, "arm 'b': pretrain makes a θ"),
        ({"arms": {"a": ArmConfig(tickets_of="b"), "b": ArmConfig(theta_of="a")}}, "wait for each other"),
        ({"arms": {"a": ArmConfig(tickets_of="b"), "b": ArmConfig(tickets_of="a")}}, "wait for each other"),
        ({"settings": {"training": {"max_stepz": 3}}}, "arm 'a': settings: .*max_stepz"),
        ({"configs": ["conformer_mimi"]}, "arm 'a': .*conformer_mini"),
        ({"arms": {"a": ArmConfig(pretrain={})}}, "arm 'a': search.theta_only: theta.train names no corpus"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(changes, words):
    with pytest.raises(ConfigError, match=words):
        plan_cells(grid(**({"settings": {"theta": {"train": [], "dev": []}}} | changes)))


@pytest.mark.parametrize("name", shipped.names("grid"))
def test_every_shipped_grid_plans(name):
    planned, table_only = parse_grid([name])
    cells = plan_cells(planned)
    assert not table_only
    assert len({cell.config.run_dir for cell in cells}) == len(cells) > 3


def test_the_command_line_wins():
    options = "--out here --seeds 7 --parallel 4 --launcher ray --table-only"
    settings = "--set training.max_steps=5 --set data.root=/x"
    planned, table_only = parse_grid(["compare_mini", *options.split(), *settings.split()])
    assert (planned.out, planned.seeds, planned.parallel, planned.launcher) == ("here", [7], 4, "ray")
    assert table_only
    assert {cell.config.data.root for cell in plan_cells(planned)} == {"/x"}


@pytest.mark.parametrize(
    ("words", "setting", "value"),
    [
        ("precision=no", "precision", "no"),
        ("model.language=no", "language", "no"),  # Norwegian
        ("model.language=null", "language", None),
        ("model.revision=1234567", "revision", "1234567"),
        ("pruning={targets: [0.5, 0.2]}", "targets", (0.5, 0.2)),
        ("pruning.targets=[0.5, 0.2]", "targets", (0.5, 0.2)),
        ("model.init=a: b: c", "init", "a: b: c"),  # no YAML
    ],
)
def test_a_setting_of_the_command_line_is_what_a_search_makes_of_it(words, setting, value, tmp_path):
    (tmp_path / "g.yaml").write_text(
        "configs: [conformer_mini]\nsettings: {pruning: {targets: [0.3]}, search: {rounds: 1}}\narms: {a: {}}\n"
    )
    planned, _ = parse_grid([str(tmp_path / "g.yaml"), "--set", words])
    config = plan_cells(planned)[0].config
    sections = [section for section in (config, config.model, config.pruning) if hasattr(section, setting)]
    assert getattr(sections[0], setting) == value


def test_strings_of_a_grid_stay_strings(tmp_path):
    (tmp_path / "g.yaml").write_text(
        "configs: [conformer_mini]\n"
        "settings: {precision: 'no', model: {language: 'no', overrides: {hidden_act: silu}}}\n"
        "slurm: {time: '1:00:00', more: ['no', 1]}\n"
        "arms: {a: {settings: {model: {revision: '1e10'}}, pretrain: {training: {epochs: 3, max_steps: null}}}}\n"
    )
    planned, _ = parse_grid([str(tmp_path / "g.yaml")])
    assert planned.slurm == {"time": "1:00:00", "more": ["no", 1]}
    for cell in plan_cells(planned):
        assert (cell.config.precision, cell.config.model.language) == ("no", "no")
        assert cell.config.model.revision == "1e10"
    assert plan_cells(planned)[0].config.theta.training.epochs == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "'nowhere': no such file, and no grid of the package has that name"),
        (["compare_mini", "--set", "x"], "--set x: KEY=VALUE is expected"),
        (["compare_mini", "--seeds", "one"], "comparison: .*seeds"),
    ],
)
def test_a_command_line_that_makes_no_sense(words, message):
    with pytest.raises(ConfigError, match=message):
        parse_grid(words)


def test_an_unknown_key_of_a_grid(tmp_path):
    (tmp_path / "g.yaml").write_text("arms: {a: {}}\nseedz: [1]\n")
    with pytest.raises(ConfigError, match=r"comparison: .*seedz"):
        parse_grid([str(tmp_path / "g.yaml")])
