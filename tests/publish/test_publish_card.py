"""What a card says, and how it is written over another."""

from dataclasses import replace

import pytest
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from audio_lottery.config import CorpusConfig, ModelConfig
from audio_lottery.errors import HubError
from audio_lottery.publish.card import escape, fenced, render_card
from audio_lottery.publish.checks import Remeasured
from audio_lottery.publish.merge import BEGIN, END, merge_cards
from audio_lottery.publish.metadata import base_model, benchmark_entries, card_data
from audio_lottery.publish.names import Target, choose_round
from audio_lottery.publish.places import public_settings
from audio_lottery.publish.terms import corpora_of, licence_of, terms_of
from audio_lottery.settings import read_config, without_places

REPO = "somebody/ticket"


@pytest.fixture(scope="module")
def chosen(published_run):
    return choose_round(published_run, "1")


@pytest.fixture(scope="module")
def config(published_run):
    return read_config(published_run / "config.yaml")


def render(chosen, config, **changes) -> str:
    given = {
        "target": Target(REPO),
        "trained_on": ["tedlium/train"],
        "sizes": {"model.safetensors": 100},
        "remeasured": Remeasured(2, 0, 0.1, 0.1, "cpu", "2.14"),
        "plain": "Wav2Vec2ForCTC",
        "curve": True,
    }
    return render_card(chosen, config, **given | changes)


def test_the_card_has_what_the_record_says(chosen, config):
    text, metrics = render(chosen, config), chosen.group.first.rounds[1]
    assert f"{metrics['prunable']:,} | {metrics['kept']:,} (80.00 %)" in text
    assert f"({metrics['remaining_percent_all']:.2f} %)" in text
    assert f"{100 * metrics['test']['clean']['wer']:.2f} \\[" in text
    assert all(escape(name) in text for name in metrics["kept_per_tensor"])
    assert metrics["mask_sha256"] in text
    assert "Normaliser `basic`" in text
    assert "Seed 5" in text
    assert "CC BY-NC-ND 3.0" in text
    assert "2 test utterances were recognised again" in text
    assert "not measured again" in render(chosen, config, remeasured=None)
    assert "![" not in render(chosen, config, curve=False)
    assert 'load_ticket("somebody/ticket", revision="round-01")' in render(
        chosen, config, target=Target(REPO, "round-01"), plain=""
    )


def test_foreign_text_is_shown_and_not_obeyed(chosen, config):
    evil = "<script>alert(1)</script>|[x](http://y)\n# no"
    text = render(chosen, replace(config, model=ModelConfig(init=evil)), trained_on=[f"{evil}/train"])
    outside = text[: text.index("Settings of the search")] + text[text.index("## Limits") :]
    assert "<script>" not in outside
    assert "\n# no" not in outside
    assert "[x](" not in outside.replace("\\[", "").replace("\\]", "")
    assert fenced("a\n```\nb").startswith("````")


def test_metadata_is_valid_and_complete(chosen, config):
    from_hub = replace(config, model=ModelConfig(init="facebook/wav2vec2-base"))
    data = card_data(chosen, from_hub, REPO, ["librispeech/train-clean-100", "tedlium/train"], None, True)
    card = ModelCard(merge_cards(data, "text", "", keep_licence=True))
    found = card.data.to_dict()
    assert found["license"] == "cc-by-nc-nd-3.0"
    assert found["base_model"] == "facebook/wav2vec2-base"
    assert found["base_model_relation"] == "finetune"
    assert found["datasets"] == ["LIUM/tedlium", "openslr/librispeech_asr"]
    assert found["language"] == "en"
    assert found["pipeline_tag"] == "automatic-speech-recognition"
    wer = chosen.group.first.rounds[1]["test"]["clean"]["wer"]
    assert [one.metric_value for one in card.data.eval_results if one.metric_type == "wer"] == [round(100 * wer, 2)]
    assert card_data(chosen, config, REPO, [], "mit", False).library_name == "audio_lottery"
    assert base_model(config) is None  # a preset
    assert base_model(replace(config, model=ModelConfig(init="facebook/wav2vec2-base", random_init=True))) is None


@pytest.mark.parametrize(
    ("corpora", "licence"),
    [
        (["common_voice/train"], "cc0-1.0"),
        (["common_voice/train", "librispeech/train-clean-5"], "cc-by-4.0"),
        (["librispeech/train-clean-5", "tedlium/train", "jsonl/own"], "cc-by-nc-nd-3.0"),
        (["librispeech/train-clean-5", "jsonl/own"], "unknown"),
        (["hub:openslr/librispeech_asr/clean/train.100"], "cc-by-4.0"),
        ([], "unknown"),
    ],
)
def test_the_licence_is_the_strictest_of_the_corpora(corpora, licence):
    assert licence_of(corpora) == licence


def test_corpora_have_their_names_and_no_folders(published_run):
    class Manifest:
        def unique(self, column):
            return ["tedlium/train", "hub:/home/me/speech/train"]

    mini = CorpusConfig("mini-ted", "train")
    assert corpora_of([mini], Manifest()) == ["mini-ted/train"]
    assert corpora_of([mini, CorpusConfig("hub", "train")], Manifest()) == [
        "hub:speech",
        "mini-ted/train",
        "tedlium/train",
    ]
    assert "eSpeak" in terms_of("mini-ted/train").says


def test_benchmarks_get_the_clean_result_only(chosen):
    metrics = chosen.group.first.rounds[1]["test"]
    before = dict(metrics["clean"])
    try:
        assert benchmark_entries(chosen, REPO) == {}  # a corpus that is nowhere on the Hub
        metrics["clean"]["corpora"] = ["librispeech/test-clean"]
        (entry,) = benchmark_entries(chosen, REPO)["openslr__librispeech_asr"]
        assert (entry.dataset_id, entry.task_id) == ("openslr/librispeech_asr", "test_clean")
        metrics["clean"]["noise"] = "pink"
        assert benchmark_entries(chosen, REPO) == {}
    finally:
        metrics["clean"] = before


def test_settings_name_no_folder_of_the_machine(config):
    public = public_settings(replace(config, model=ModelConfig(init="/home/me/checkpoint")))
    assert "run_dir" not in public
    assert "root" not in public["data"]
    assert public["model"]["init"] == "checkpoint"
    assert without_places({"a": ["~/x/y", "noise/test"]}) == {"a": ["y", "noise/test"]}


def data(**more) -> ModelCardData:
    result = EvalResult("asr", "d", "D", "wer", 5.0, source_name="audio_lottery", source_url="https://x")
    return ModelCardData(license="cc-by-4.0", tags=["a"], model_name="t", eval_results=[result], **more)


def test_a_card_of_others_is_kept_below_and_its_results_beside():
    other = EvalResult("asr", "mine", "Mine", "wer", 9.0)
    there = ModelCardData(license="mit", tags=["b"], model_name="t", eval_results=[other])
    old = f"---\n{there.to_yaml()}\n---\nMy words."
    card = ModelCard(merge_cards(data(), "new", old, keep_licence=True))
    assert card.text.index("new") < card.text.index("My words.")
    assert card.data.license == "mit"
    assert card.data.tags == ["a", "b"]
    assert sorted(one.metric_value for one in card.data.eval_results) == [5.0, 9.0]
    assert ModelCard(merge_cards(data(), "new", old, keep_licence=False)).data.license == "cc-by-4.0"
    twice = merge_cards(data(), "newer", str(card), keep_licence=True)
    assert twice.count(BEGIN) == twice.count(END) == twice.count("My words.") == 1
    assert merge_cards(data(), "newer", twice, keep_licence=True) == twice


def test_a_licence_of_our_own_is_taken_anew():
    first = merge_cards(data(), "new", "", keep_licence=True)
    stricter = data()
    stricter.license = "cc-by-nc-nd-3.0"
    assert ModelCard(merge_cards(stricter, "new", first, keep_licence=True)).data.license == "cc-by-nc-nd-3.0"


def test_a_damaged_card_is_not_overwritten():
    with pytest.raises(HubError, match="cannot be read"):
        merge_cards(data(), "new", "---\nlicense: [\n---\n", keep_licence=True)
    half = merge_cards(data(), "new", f"Words.\n{BEGIN}\nmore words", keep_licence=True)
    assert "Words." in half
    assert half.count(BEGIN) == 1
