"""Make stores out of downloads, add splits to them, check them. `python data/prepare.py --help`"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data import check, custom, demo, kinetics, long_tail, ntu, nw_ucla, pyskl
from torchlight.errors import guarded

# command: what it does, the module with add_arguments(parser) and run(arguments), fixed arguments
COMMANDS = {
    "demo": ("a generated data set of ten actions", demo, {}),
    "nw-ucla": ("NW-UCLA from its JSON files", nw_ucla, {}),
    "ntu60": ("NTU RGB+D 60 from its .skeleton files", ntu, {"num_class": 60}),
    "ntu120": ("NTU RGB+D 120 from its .skeleton files", ntu, {"num_class": 120}),
    "pyskl": ("PYSKL's annotation pickles", pyskl, {}),
    "kinetics": ("Kinetics-Skeleton from its JSON files", kinetics, {}),
    "custom": ("clips of your own, which a YAML describes", custom, {}),
    "long-tail": ("add a long-tailed split to a store", long_tail, {}),
    "check": ("say what is in a store, and what is wrong with it", check, {}),
}


class Parser(argparse.ArgumentParser):
    def error(self, message):
        raise ValueError(f"{message} (see {self.prog} --help)")


def parser():
    main = Parser(prog="data/prepare.py", description=__doc__)
    commands = main.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (text, module, fixed) in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=module.run.__doc__, allow_abbrev=False)
        module.add_arguments(command)
        command.set_defaults(run=module.run, **fixed)
    return main


def main(argv):
    arguments = parser().parse_args(argv)
    return arguments.run(arguments)


if __name__ == "__main__":
    guarded(main)
