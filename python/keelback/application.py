"""Replaces an application whose file name cannot be a module's name, or is the name of another module.

In a worker the application has this name and takes this place. In a process that it starts with
multiprocessing, this module loads the application's file when one of its functions is looked up.
"""

import os

from keelback import loading

loading.load_as(__name__, os.environ[loading.FILE_VARIABLE])
