"""Adapters that call other libraries as measures; each library is imported only when it is called."""

from sharpbench_peers.asdl import AsdlTrace
from sharpbench_peers.backpack import BackpackTrace
from sharpbench_peers.curvlinops import CurvlinopsTopEigenvalue, CurvlinopsTrace
from sharpbench_peers.eigenthings import EigenthingsTopEigenvalue, EigenthingsTrace
from sharpbench_peers.nngeometry import NngeometryTrace
from sharpbench_peers.paper import PaperTrace
from sharpbench_peers.pyhessian import PyHessianTopEigenvalue, PyHessianTrace

MEASURES = (
    PaperTrace,
    BackpackTrace,
    CurvlinopsTrace,
    EigenthingsTrace,
    PyHessianTrace,
    NngeometryTrace,
    AsdlTrace,
    CurvlinopsTopEigenvalue,
    EigenthingsTopEigenvalue,
    PyHessianTopEigenvalue,
)

__all__ = [
    "MEASURES",
    "AsdlTrace",
    "BackpackTrace",
    "CurvlinopsTopEigenvalue",
    "CurvlinopsTrace",
    "EigenthingsTopEigenvalue",
    "EigenthingsTrace",
    "NngeometryTrace",
    "PaperTrace",
    "PyHessianTopEigenvalue",
    "PyHessianTrace",
]
