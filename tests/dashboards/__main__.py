"""Write the dashboards where Grafana is given them."""

import json
from pathlib import Path

from tests.dashboards import dashboards

FOLDER = Path(__file__).resolve().parents[2] / "compose" / "grafana" / "dashboards"

for name, dashboard in dashboards().items():
    text = json.dumps(dashboard, indent=2, ensure_ascii=False)
    (FOLDER / name).write_text(f"{text}\n", encoding="utf-8")
