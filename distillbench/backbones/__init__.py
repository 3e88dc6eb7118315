"""Teachers, one file each; files with an underscore hold what they share."""

import logging

# Where torchao is installed, the packages that load networks warn of each other's versions at their
# import, in lines that no user can act on.
for _name in ("torch.utils._pytree", "diffusers.quantizers.torchao.torchao_quantizer"):
    logging.getLogger(_name).setLevel(logging.ERROR)
