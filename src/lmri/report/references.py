"""References of the methods, as formatted text and as BibTeX."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Reference:
    """A publication.

    Parameters
    ----------
    kind : str
        BibTeX entry type.
    short : str
        Authors as displayed.
    title, year : str
        Title and year of the publication.
    where : str
        Journal or book with volume and pages, as displayed.
    fields : dict of str to str
        Further fields of the BibTeX entry, with all authors.
    """

    kind: str
    short: str
    title: str
    year: str
    where: str
    fields: dict[str, str]

    def text(self) -> str:
        """Format the reference as an entry of a list."""
        return f"{self.short} ({self.year}). {self.title}. {self.where}."

    def bibtex(self, key: str) -> str:
        """Format the reference as a BibTeX entry."""
        rows = {"author": self.fields["author"], "title": f"{{{self.title}}}", "year": self.year}
        rows |= {name: value for name, value in self.fields.items() if name != "author"}
        body = ",\n".join(f"  {name} = {{{value}}}" for name, value in rows.items())
        return f"@{self.kind}{{{key},\n{body}\n}}"


def _article(short: str, title: str, year: str, where: str, author: str, **fields: str) -> Reference:
    return Reference("article", short, title, year, where, {"author": author, **fields})


REFERENCES: dict[str, Reference] = {
    "liu2025": _article(
        "Liu et al.",
        "Brain-inspired exploration of functional networks and key neurons in large language models",
        "2025",
        "arXiv:2502.20408",
        "Liu, Yiheng and Gao, Xiaohui and Sun, Haiyang and Ge, Bao and Liu, Tianming and Han, Junwei and Hu, Xintao",
        journal="arXiv preprint arXiv:2502.20408",
    ),
    "gorgolewski2016": _article(
        "Gorgolewski et al.",
        "The brain imaging data structure, a format for organizing and describing outputs of neuroimaging experiments",
        "2016",
        "Scientific Data, 3, 160044",
        "Gorgolewski, Krzysztof J. and others",
        journal="Scientific Data",
        volume="3",
        pages="160044",
    ),
    "sun2024": _article(
        "Sun et al.",
        "Massive activations in large language models",
        "2024",
        "arXiv:2402.17762",
        "Sun, Mingjie and Chen, Xinlei and Kolter, J. Zico and Liu, Zhuang",
        journal="arXiv preprint arXiv:2402.17762",
    ),
    "power2012": _article(
        "Power et al.",
        "Spurious but systematic correlations in functional connectivity MRI networks arise from subject motion",
        "2012",
        "NeuroImage, 59, 2142–2154",
        "Power, Jonathan D. and Barnes, Kelly A. and Snyder, Abraham Z. and Schlaggar, Bradley L. and "
        "Petersen, Steven E.",
        journal="NeuroImage",
        volume="59",
        number="3",
        pages="2142--2154",
    ),
    "horn1965": _article(
        "Horn",
        "A rationale and test for the number of factors in factor analysis",
        "1965",
        "Psychometrika, 30, 179–185",
        "Horn, John L.",
        journal="Psychometrika",
        volume="30",
        number="2",
        pages="179--185",
    ),
    "wax1985": _article(
        "Wax & Kailath",
        "Detection of signals by information theoretic criteria",
        "1985",
        "IEEE Transactions on Acoustics, Speech, and Signal Processing, 33, 387–392",
        "Wax, Mati and Kailath, Thomas",
        journal="IEEE Transactions on Acoustics, Speech, and Signal Processing",
        volume="33",
        number="2",
        pages="387--392",
    ),
    "nickerson2017": _article(
        "Nickerson et al.",
        "Using dual regression to investigate network shape and amplitude in functional connectivity analyses",
        "2017",
        "Frontiers in Neuroscience, 11, 115",
        'Nickerson, Lisa D. and Smith, Stephen M. and {\\"O}ng{\\"u}r, D{\\"o}st and Beckmann, Christian F.',
        journal="Frontiers in Neuroscience",
        volume="11",
        pages="115",
    ),
    "varoquaux2010": _article(
        "Varoquaux et al.",
        "A group model for stable multi-subject ICA on fMRI datasets",
        "2010",
        "NeuroImage, 51, 288–299",
        'Varoquaux, Ga{\\"e}l and Sadaghiani, Sepideh and Pinel, Philippe and Kleinschmidt, Andreas and '
        "Poline, Jean-Baptiste and Thirion, Bertrand",
        journal="NeuroImage",
        volume="51",
        number="1",
        pages="288--299",
    ),
    "mensch2016": Reference(
        "inproceedings",
        "Mensch, Varoquaux & Thirion",
        "Compressed online dictionary learning for fast resting-state fMRI decomposition",
        "2016",
        "ISBI",
        {
            "author": 'Mensch, Arthur and Varoquaux, Ga{\\"e}l and Thirion, Bertrand',
            "booktitle": "IEEE International Symposium on Biomedical Imaging (ISBI)",
        },
    ),
    "hyvarinen1999": _article(
        "Hyvärinen",
        "Fast and robust fixed-point algorithms for independent component analysis",
        "1999",
        "IEEE Transactions on Neural Networks, 10, 626–634",
        'Hyv{\\"a}rinen, Aapo',
        journal="IEEE Transactions on Neural Networks",
        volume="10",
        number="3",
        pages="626--634",
    ),
    "hyvarinen2000": _article(
        "Hyvärinen & Oja",
        "Independent component analysis: algorithms and applications",
        "2000",
        "Neural Networks, 13, 411–430",
        'Hyv{\\"a}rinen, Aapo and Oja, Erkki',
        journal="Neural Networks",
        volume="13",
        pages="411--430",
    ),
    "ablin2018": Reference(
        "inproceedings",
        "Ablin, Cardoso & Gramfort",
        "Faster ICA under orthogonal constraint",
        "2018",
        "ICASSP",
        {
            "author": "Ablin, Pierre and Cardoso, Jean-Fran{\\c{c}}ois and Gramfort, Alexandre",
            "booktitle": "IEEE International Conference on Acoustics, Speech and Signal Processing (ICASSP)",
        },
    ),
    "smith2014": _article(
        "Smith et al.",
        "Group-PCA for very large fMRI datasets",
        "2014",
        "NeuroImage, 101, 738–749",
        'Smith, Stephen M. and Hyv{\\"a}rinen, Aapo and Varoquaux, Ga{\\"e}l and Miller, Karla L. and '
        "Beckmann, Christian F.",
        journal="NeuroImage",
        volume="101",
        pages="738--749",
    ),
    "himberg2004": _article(
        "Himberg, Hyvärinen & Esposito",
        "Validating the independent components of neuroimaging time series via clustering and visualization",
        "2004",
        "NeuroImage, 22, 1214–1222",
        'Himberg, Johan and Hyv{\\"a}rinen, Aapo and Esposito, Fabrizio',
        journal="NeuroImage",
        volume="22",
        number="3",
        pages="1214--1222",
    ),
    "yang2008": _article(
        "Yang et al.",
        "Ranking and averaging independent component analysis by reproducibility (RAICAR)",
        "2008",
        "Human Brain Mapping, 29, 711–725",
        "Yang, Zhi and LaConte, Stephen and Weng, Xuchu and Hu, Xiaoping",
        journal="Human Brain Mapping",
        volume="29",
        number="6",
        pages="711--725",
    ),
    "benjamini1995": _article(
        "Benjamini & Hochberg",
        "Controlling the false discovery rate: a practical and powerful approach to multiple testing",
        "1995",
        "Journal of the Royal Statistical Society B, 57, 289–300",
        "Benjamini, Yoav and Hochberg, Yosef",
        journal="Journal of the Royal Statistical Society: Series B",
        volume="57",
        number="1",
        pages="289--300",
    ),
    "beckmann2004": _article(
        "Beckmann & Smith",
        "Probabilistic independent component analysis for functional magnetic resonance imaging",
        "2004",
        "IEEE Transactions on Medical Imaging, 23, 137–152",
        "Beckmann, Christian F. and Smith, Stephen M.",
        journal="IEEE Transactions on Medical Imaging",
        volume="23",
        number="2",
        pages="137--152",
    ),
    "welch1967": _article(
        "Welch",
        "The use of fast Fourier transform for the estimation of power spectra: a method based on time averaging over "
        "short, modified periodograms",
        "1967",
        "IEEE Transactions on Audio and Electroacoustics, 15, 70–73",
        "Welch, Peter D.",
        journal="IEEE Transactions on Audio and Electroacoustics",
        volume="15",
        number="2",
        pages="70--73",
    ),
    "kuhn1955": _article(
        "Kuhn",
        "The Hungarian method for the assignment problem",
        "1955",
        "Naval Research Logistics Quarterly, 2, 83–97",
        "Kuhn, Harold W.",
        journal="Naval Research Logistics Quarterly",
        volume="2",
        pages="83--97",
    ),
    "phipson2010": _article(
        "Phipson & Smyth",
        "Permutation p-values should never be zero: calculating exact p-values when permutations are randomly drawn",
        "2010",
        "Statistical Applications in Genetics and Molecular Biology, 9, 39",
        "Phipson, Belinda and Smyth, Gordon K.",
        journal="Statistical Applications in Genetics and Molecular Biology",
        volume="9",
        number="1",
        pages="39",
    ),
    "besag1991": _article(
        "Besag & Clifford",
        "Sequential Monte Carlo p-values",
        "1991",
        "Biometrika, 78, 301–304",
        "Besag, Julian and Clifford, Peter",
        journal="Biometrika",
        volume="78",
        number="2",
        pages="301--304",
    ),
    "saxe2006": _article(
        "Saxe, Brett & Kanwisher",
        "Divide and conquer: a defense of functional localizers",
        "2006",
        "NeuroImage, 30, 1088–1096",
        "Saxe, Rebecca and Brett, Matthew and Kanwisher, Nancy",
        journal="NeuroImage",
        volume="30",
        number="4",
        pages="1088--1096",
    ),
    "nichols2002": _article(
        "Nichols & Holmes",
        "Nonparametric permutation tests for functional neuroimaging: a primer with examples",
        "2002",
        "Human Brain Mapping, 15, 1–25",
        "Nichols, Thomas E. and Holmes, Andrew P.",
        journal="Human Brain Mapping",
        volume="15",
        number="1",
        pages="1--25",
    ),
    "gilman1963": _article(
        "Gilman, Fuglister & Mitchell",
        "On the power spectrum of “red noise”",
        "1963",
        "Journal of the Atmospheric Sciences, 20, 182–184",
        "Gilman, Donald L. and Fuglister, Frederick J. and Mitchell, John Murray",
        journal="Journal of the Atmospheric Sciences",
        volume="20",
        pages="182--184",
    ),
}
"""References by citation key."""


def bibtex(keys: Sequence[str]) -> str:
    """Return the BibTeX entries of references."""
    return "\n\n".join(REFERENCES[key].bibtex(key) for key in keys)
