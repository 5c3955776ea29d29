"""What fools it: one attack, one file."""

from .adversarial_training import adversarial_training as adversarial_training
from .apgd import apgd as apgd
from .attack.result import Attack as Attack
from .attack.transformations import Transformations as Transformations
from .auto_attack import auto_attack as auto_attack
from .carlini_wagner import carlini_wagner as carlini_wagner
from .deepfool import deepfool as deepfool
from .fab import fab as fab
from .fgsm import fgsm as fgsm
from .hop_skip_jump import hop_skip_jump as hop_skip_jump
from .patch import Patch as Patch
from .patch import patch as patch
from .pgd import pgd as pgd
from .predict_under_transforms import predict_under_transforms as predict_under_transforms
from .robustness import Robustness as Robustness
from .robustness import robustness as robustness
from .square import square as square
from .substitute import Substitute as Substitute
from .substitute import substitute as substitute
from .targeted import targeted as targeted
from .transfer import Transfer as Transfer
from .transfer import transfer as transfer
from .universal import Universal as Universal
from .universal import universal as universal
