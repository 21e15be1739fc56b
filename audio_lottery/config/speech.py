"""The speech side of the settings: corpora, text, augmentation, test conditions and decoding."""

from dataclasses import dataclass, field
from typing import Literal


@dataclass
class CorpusConfig:
    """One split of one corpus.

    Corpora and suites are tuples in the configuration because jsonargparse fills in fields that an overriding *list*
    leaves out from the list it replaces.

    Args:
        corpus: layout on disk: librispeech, common_voice, tedlium, jsonl; prepared (what `audio-lottery prepare`
            made); hub (a datasets repository or parquet files); or mini-libri, mini-cv, mini-ted (made on first use).
        split: name of the split in that corpus, e.g. train-clean-100, train, train.jsonl.
        path: folder of the corpus, relative to data.root or absolute; for hub also a repository id such as
            openslr/librispeech_asr; not used by the mini corpora.
        limit: use only this many utterances, spread evenly over the split (hub: the first ones).
        text: text steps or a normaliser that the transcripts go through when they are read, before data.normalizer;
            for spellings that only this corpus has.
        subset: name of the dataset's configuration on the Hub, e.g. clean.
        revision: branch, tag or commit on the Hub.
        columns: manifest column: column of the dataset, where names differ, e.g. {text: sentence, speaker: client_id}.
    """

    corpus: str
    split: str
    path: str = ""
    limit: int | None = None
    text: str | None = None
    subset: str | None = None
    revision: str | None = None
    columns: dict[str, str] = field(default_factory=dict)


@dataclass
class DataConfig:
    """Speech in: which corpora, and what of them is trained on.

    Args:
        root: folder that relative corpus and noise paths start from.
        train: splits the search trains on, joined.
        dev: splits the best model of a round is chosen on.
        test: splits that WER is reported on; never filtered.
        normalizer: text normaliser of training labels and, unless evaluation.normalizer names another, of every WER: a
            name (none, basic, whisper_english ...) or steps joined by +, e.g. lower+drop_punctuation.
        out_of_vocabulary: training transcripts with characters the model cannot write: error, or drop (counted).
        min_seconds: shorter utterances are dropped from training (counted).
        max_seconds: longer utterances are dropped from training (counted).
        num_workers: processes that decode audio ahead of the training loop; 0 decodes in the loop.
    """

    root: str = "."
    train: tuple[CorpusConfig, ...] = (CorpusConfig("mini-ted", "train"),)
    dev: tuple[CorpusConfig, ...] = (CorpusConfig("mini-ted", "dev"),)
    test: tuple[CorpusConfig, ...] = (CorpusConfig("mini-ted", "test"),)
    normalizer: str = "basic"
    out_of_vocabulary: Literal["error", "drop"] = "error"
    min_seconds: float = 0.1
    max_seconds: float = 20.0
    num_workers: int = 0


@dataclass
class AugmentConfig:
    """Changes to the training speech, drawn anew for every utterance in every epoch.

    Source: speed perturbation, Ko et al. 2015, "Audio augmentation for speech recognition"; noise and reverberation,
    Ko et al. 2017, "A study on data augmentation of reverberant speech for robust speech recognition".

    Args:
        noise: where noise comes from, one is drawn per utterance: white, pink, babble (other training speakers), or
            folders of recordings relative to data.root.
        noise_part: which part of a noise folder training may use: train or all. A folder with subfolders train and
            test is divided by them, any other by file name (80 % train).
        noise_prob: share of utterances that noise is added to.
        snr_db: lowest and highest signal-to-noise ratio in dB, over active speech; drawn uniformly.
        noise_amplitude: instead of snr_db, lowest and highest factor of the noise as it is recorded, whatever the level
            of the speech; drawn uniformly. Ding et al. 2022, "Audio Lottery", add noise in training so, at 0 to 0.5.
            Two numbers, or none for snr_db; folders alone, since white, pink and babble have no level of their own.
        rirs: folder of room impulse responses, or generated.
        rir_prob: share of utterances that are reverberated, before noise is added.
        speeds: factors of tempo and pitch, one is drawn per utterance; 1 alone changes nothing.
    """

    noise: tuple[str, ...] = ()
    noise_part: Literal["train", "all"] = "train"
    noise_prob: float = 0.0
    snr_db: tuple[float, float] = (5.0, 20.0)
    noise_amplitude: tuple[float, ...] = ()
    rirs: str | None = None
    rir_prob: float = 0.0
    speeds: tuple[float, ...] = (1.0,)


@dataclass
class SuiteConfig:
    """One test condition.

    Args:
        name: the suite's name; 'clean' gives the column test_wer, any other test_wer_NAME.
        noise: white, pink, babble (other speakers of the test set), or a folder of recordings relative to data.root;
            none for no noise.
        snr_db: signal-to-noise ratio in dB, over active speech.
        rir: folder of room impulse responses relative to data.root, or generated; applied before the noise.
        noise_part: which part of a noise folder is used: test or all. A folder with subfolders train and test is
            divided by them, any other by file name (20 % test).
    """

    name: str
    noise: str | None = None
    snr_db: float | None = None
    rir: str | None = None
    noise_part: Literal["test", "all"] = "test"


@dataclass
class DecoderConfig:
    """From logits to words.

    Args:
        kind: greedy (best path), or beam (prefix beam search with lexicon and n-gram language model; needs the
            extra decode).
        lm: n-gram language model, ARPA or KenLM binary; none searches without.
        lexicon: lines of word, tab, spelling in the model's characters separated by spaces; none takes the words of
            the language model.
        lm_weight: weight of the language model's log10 probability.
        word_score: added for every word.
        beam_size: hypotheses kept per frame.
        beam_size_token: characters tried per frame; none tries all.
        beam_threshold: hypotheses that are worse than the best by more than this are dropped.
        nbest: hypotheses kept per utterance.
    """

    kind: Literal["greedy", "beam"] = "greedy"
    lm: str | None = None
    lexicon: str | None = None
    lm_weight: float = 2.0
    word_score: float = 0.0
    beam_size: int = 50
    beam_size_token: int | None = None
    beam_threshold: float = 25.0
    nbest: int = 1


@dataclass
class EvaluationConfig:
    """WER on the test splits.

    Args:
        suites: test conditions; each is run on the whole of data.test.
        max_batch_seconds: padded audio of one evaluation batch, in seconds; none takes 32 on a CPU, whose caches more
            would overflow, and 240 on a GPU.
        max_utterance_seconds: a longer test utterance stops the evaluation with its id: attention needs memory by the
            square of the length. Nothing is left out.
        seed: seed of the noise; with the suite's name and the utterance id it fixes every sample of the noise.
        runtime: torch, or sparse: the kernels for zeros on a CPU, as a ticket is deployed (docs/sparse-runtime.md). A
            training looks at dev on torch in any case.
        precision: no (float32) or bf16 for the forward pass of evaluation: autocast of torch, or the precision of the
            sparse runtime, which has int8 besides.
        decoder: from logits to words.
        normalizer: text normaliser of every WER; none takes data.normalizer.
        beside: further normalisers; WER and CER by each stand beside, e.g. [basic].
        bootstrap: resamples of every confidence interval; 0 computes none.
    """

    suites: tuple[SuiteConfig, ...] = (SuiteConfig("clean"), SuiteConfig("noise10", noise="pink", snr_db=10.0))
    max_batch_seconds: float | None = None
    max_utterance_seconds: float = 120.0
    seed: int = 0
    runtime: Literal["torch", "sparse"] = "torch"
    precision: Literal["no", "bf16", "int8"] = "no"
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    normalizer: str | None = None
    beside: tuple[str, ...] = ()
    bootstrap: int = 1000
