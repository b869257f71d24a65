from .server import make_app as make_app
from .server import niivue_path as niivue_path
from .server import open_browser as open_browser
from .server import serve as serve
from .server import serving as serving
