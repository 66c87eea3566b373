"""`llmserving-lab law-plots`: the plots of docs/explanation/laws.md."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from llmserving_lab.bench.pool import EnginePool, RunError
from llmserving_lab.lawplots.drawing import draw
from llmserving_lab.lawplots.scenes import SCENES, panels
from llmserving_lab.verbs import FlagError, chosen, fail


def law_plots(
    out: Annotated[Path, typer.Option(help="Folder for the plots, one SVG file per law.")] = Path(
        "docs/explanation/laws"
    ),
    only: Annotated[str, typer.Option(help="Laws, comma-separated; all by default.")] = "",
) -> None:
    """Draw what each law does over time, from runs of the bench, beside a setting without it.

    The files are equal whenever laws, bench and device are. It takes about three minutes on one core.

    llmserving-lab law-plots --only sla,memory --out /tmp/plots
    """
    console = Console(stderr=True)
    try:
        wanted = chosen("--only", only, [scene.name for scene in SCENES], "law")
        out.mkdir(parents=True, exist_ok=True)
        with EnginePool(1) as pool, console.status("loading the engine's scheduler") as status:
            for scene in SCENES:
                if scene.name not in wanted:
                    continue
                status.update(f"running the scene of {scene.name}")
                submitted = {policy: pool.submit("run", scene.plan(policy)) for policy in (scene.policy, scene.beside)}
                found, end = panels(scene, {policy: run.result() for policy, run in submitted.items()})
                file = out / f"{scene.name}.svg"
                file.write_text(draw(found, end, f"{scene.policy} beside {scene.beside}"), encoding="utf-8")
                console.print(str(file))
    except (RunError, FlagError) as error:
        fail(error)
    except OSError as error:
        fail(f"--out {out}: cannot be written: {error.strerror}")
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
