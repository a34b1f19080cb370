"""Says for which machine the wheel holds programs, and that it is for no certain Python."""

import os

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Programs(BuildHookInterface):
    def initialize(self, version, build_data):
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-linux_{os.environ['KEELBACK_MACHINE']}"
