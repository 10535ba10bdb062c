"""fibc: the compiler of fibdsl. It imports no torch; `driver.py` shows the whole pipeline."""
