"""Rules that replace the backward of chosen functions, and sets of them; see `pellucid.lrp` and `pellucid.run`."""

from .functions import deconv as deconv
from .functions import gradient as gradient
from .functions import guided as guided
from .functions import norm as norm
from .functions import pass_through as pass_through
from .functions import rescale as rescale
from .functions import rescale_max as rescale_max
from .functions import rescale_product as rescale_product
from .functions import share as share
from .functions import stop as stop
from .linear import alpha_beta as alpha_beta
from .linear import epsilon as epsilon
from .linear import flat as flat
from .linear import gamma as gamma
from .linear import w_square as w_square
from .linear import z_box as z_box
from .linear import z_plus as z_plus
from .linear import zero as zero
from .presets import ATTNLRP as ATTNLRP
from .presets import BASE as BASE
from .presets import CP_LRP as CP_LRP
from .presets import DEEPLIFT as DEEPLIFT
from .presets import EPSILON as EPSILON
from .presets import EPSILON_ALPHA2_BETA1 as EPSILON_ALPHA2_BETA1
from .presets import EPSILON_ALPHA2_BETA1_FLAT as EPSILON_ALPHA2_BETA1_FLAT
from .presets import EPSILON_GAMMA_BOX as EPSILON_GAMMA_BOX
from .presets import EPSILON_PLUS as EPSILON_PLUS
from .presets import EPSILON_PLUS_FLAT as EPSILON_PLUS_FLAT
from .presets import EXCITATION_BACKPROP as EXCITATION_BACKPROP
from .presets import GAMMA_SCHEDULE as GAMMA_SCHEDULE
from .presets import GAMMA_SCHEDULE_VGG16 as GAMMA_SCHEDULE_VGG16
from .presets import LRP_ZERO as LRP_ZERO
from .presets import Schedule as Schedule
from .presets import by_depth as by_depth
from .rule import KINDS as KINDS
from .rule import Function as Function
from .rule import Linear as Linear
from .rule import Pulled as Pulled
from .rule import Rule as Rule
from .rule import RuleError as RuleError
from .rule import rule as rule

__all__ = [
    "ATTNLRP",
    "BASE",
    "CP_LRP",
    "DEEPLIFT",
    "EPSILON",
    "EPSILON_ALPHA2_BETA1",
    "EPSILON_ALPHA2_BETA1_FLAT",
    "EPSILON_GAMMA_BOX",
    "EPSILON_PLUS",
    "EPSILON_PLUS_FLAT",
    "EXCITATION_BACKPROP",
    "GAMMA_SCHEDULE",
    "GAMMA_SCHEDULE_VGG16",
    "KINDS",
    "LRP_ZERO",
    "Function",
    "Linear",
    "Pulled",
    "Rule",
    "RuleError",
    "Schedule",
    "alpha_beta",
    "by_depth",
    "deconv",
    "epsilon",
    "flat",
    "gamma",
    "gradient",
    "guided",
    "norm",
    "pass_through",
    "rescale",
    "rescale_max",
    "rescale_product",
    "rule",
    "share",
    "stop",
    "w_square",
    "z_box",
    "z_plus",
    "zero",
]
