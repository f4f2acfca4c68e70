"""Citations of the libraries, in BibTeX."""

IBAYASHI = """\
@misc{ibayashi2021minimum,
  title         = {Minimum sharpness: Scale-invariant parameter-robustness of neural networks},
  author        = {Ibayashi, Hikaru and Hamaguchi, Takuo and Imaizumi, Masaaki},
  year          = {2021},
  eprint        = {2106.12612},
  archiveprefix = {arXiv}
}
"""
PYHESSIAN = """\
@inproceedings{yao2020pyhessian,
  title     = {{PyHessian}: Neural Networks Through the Lens of the {H}essian},
  author    = {Yao, Zhewei and Gholami, Amir and Keutzer, Kurt and Mahoney, Michael W.},
  booktitle = {IEEE International Conference on Big Data},
  pages     = {581--590},
  year      = {2020}
}
"""
CURVLINOPS = """\
@misc{dangel2025curvlinops,
  title         = {Position: Curvature Matrices Should Be Democratized via Linear Operators},
  author        = {Dangel, Felix and Eschenhagen, Runa and Ormaniec, Weronika and Fernandez, Andres and
    Tatzel, Lukas and Kristiadi, Agustinus},
  year          = {2025},
  eprint        = {2501.19183},
  archiveprefix = {arXiv}
}
"""
BACKPACK = """\
@inproceedings{dangel2020backpack,
  title     = {{BackPACK}: Packing more into Backprop},
  author    = {Dangel, Felix and Kunstner, Frederik and Hennig, Philipp},
  booktitle = {International Conference on Learning Representations},
  year      = {2020}
}
"""
EIGENTHINGS = """\
@misc{golmant2018eigenthings,
  title        = {pytorch-hessian-eigenthings: efficient PyTorch Hessian eigendecomposition},
  author       = {Golmant, Noah and Yao, Zhewei and Gholami, Amir and Mahoney, Michael and Gonzalez, Joseph},
  year         = {2018},
  howpublished = {https://github.com/noahgolmant/pytorch-hessian-eigenthings}
}
"""
NNGEOMETRY = """\
@misc{george2021nngeometry,
  title        = {{NNGeometry}: Easy and Fast Fisher Information Matrices and Neural Tangent Kernels in PyTorch},
  author       = {George, Thomas},
  year         = {2021},
  howpublished = {https://github.com/tfjgeorge/nngeometry}
}
"""
ASDL = """\
@misc{osawa2023asdl,
  title         = {{ASDL}: A Unified Interface for Gradient Preconditioning in PyTorch},
  author        = {Osawa, Kazuki and Ishikawa, Satoki and Yokota, Rio and Li, Shigang and Hoefler, Torsten},
  year          = {2023},
  eprint        = {2305.04684},
  archiveprefix = {arXiv}
}
"""
