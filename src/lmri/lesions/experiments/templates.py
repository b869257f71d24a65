"""Templates of every corpus as an experiment, in the layout of Tables 1 to 3 of the paper."""

from lmri.decomposition.individuals.corpus_templates import CorpusTemplates
from lmri.decomposition.parity import PARITY
from lmri.lesions.experiments.paper import check_model, templates_layout
from lmri.storage.outcome import Outcome


def templates_outcome(templates: CorpusTemplates, model: str | None = None, parity: bool = False) -> Outcome:
    """Summarize templates as text, the paper's layout, a table and a figure.

    Parameters
    ----------
    templates : CorpusTemplates
        Result of `find_templates_by_corpus`.
    model : {"gpt2", "qwen2.5-3b", "chatglm3-6b"}, optional
        Model of the paper whose counts are shown alongside.
    parity : bool, default=False
        Whether networks were computed with the paper's settings.
    """
    from lmri.decomposition.individuals.template_figure import draw_templates  # drawing takes a second to load
    from lmri.space.drawing import drawing

    model = check_model(model)
    iou = next(iter(templates.overlaps.values())).threshold
    sentences = [
        f"Templates of {corpus}: {int((overlap.table['n_above'] > overlap.table['chance_95']).sum())} of "
        f"{len(overlap.table)} counts of a template in the texts of a corpus exceed the 95 % level of random networks "
        "with the same layer profiles."
        for corpus, overlap in templates.overlaps.items()
    ]
    sentences.append(
        f"Of {templates.n_individuals} decompositions of single texts, {templates.n_not_converged} did not converge "
        f"and {templates.n_nothing_found} found no network; these count as empty."
    )
    limits = (
        "Counts depend on the number of single texts and on the number of maps per text. The chance level is exact for "
        "random networks, but not for networks that share neurons present in nearly every network, which make any two "
        "networks similar. Counts are not corrected for multiple comparisons. One model is one subject."
    )
    caption = (
        f"Networks of single texts with IoU > {iou:g} to each template, by the corpus of the text; one panel per "
        "corpus with templates. Bold: above the 95 % level of random networks with the same layer profiles."
    )
    return Outcome(
        "templates",
        f"{PARITY.capitalize()}: templates by corpus" if parity else "Templates by corpus",
        " ".join(sentences) + "\n\n" + limits,
        {"templates": templates.table},
        {
            f"templates-of-{corpus}": templates_layout(overlap.table, model)
            for corpus, overlap in templates.overlaps.items()
        },
        {"templates": drawing(draw_templates(templates.overlaps), caption)},
    )
