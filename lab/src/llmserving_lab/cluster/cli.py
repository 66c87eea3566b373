"""`llmserving-lab cluster`: the embedded cluster by hand."""

from __future__ import annotations

from typing import Annotated

import typer

from llmserving_lab.cluster.embedded import EmbeddedCluster
from llmserving_lab.cluster.errors import ClusterError

cluster_app = typer.Typer(
    name="cluster",
    no_args_is_help=True,
    help="A real Kubernetes on this machine, without containers or downloads of images.\n\n"
    "etcd, API server, controller manager, scheduler, kubelet, containerd and kube-proxy run in namespaces of their "
    "own. Nothing of the host is changed, and `down` leaves no trace. Needs Linux and root; missing "
    "programs are built or installed on first use (about 9 minutes on 2 cores, seconds after that).",
)

Name = Annotated[str, typer.Option(help="Clusters of different names run side by side.")]


@cluster_app.command()
def up(
    name: Name = "lab",
    node: Annotated[
        bool, typer.Option(help="--no-node starts the API alone: enough for custom resources, not for pods.")
    ] = True,
    gpus: Annotated[int, typer.Option(min=0, help="GPUs the node claims to have (nvidia.com/gpu).")] = 0,
) -> None:
    """Start a cluster that stays until `down`, and print how to reach it."""
    try:
        cluster = EmbeddedCluster.start_detached(name=name, node=node)
        if gpus and node:
            cluster.set_node_capacity({"nvidia.com/gpu": str(gpus)})
        version = cluster.kubernetes_version
    except ClusterError as error:
        raise _failed(error) from error
    typer.echo(f"Kubernetes {version} was ready after {cluster.ready_seconds:.1f} s. To use it:\n")
    typer.echo(f"  export KUBECONFIG={cluster.kubeconfig}")
    typer.echo(f"  alias kubectl={cluster.programs['kubectl']}\n")
    typer.echo(f"logs: {cluster.logs}\nend:  llmserving-lab cluster down --name {name}")


@cluster_app.command()
def down(
    name: Name = "lab",
    everything: Annotated[bool, typer.Option("--all", help="End every cluster of this user.")] = False,
) -> None:
    """End a cluster: its processes, mounts, control groups, network and files."""
    running = EmbeddedCluster.running()
    chosen = [cluster for cluster in running if everything or cluster.name == name]
    for cluster in chosen:
        cluster.stop()
        typer.echo(f"{cluster.name}: ended")
    if not chosen and not everything:
        others = ", ".join(cluster.name for cluster in running) or "none"
        raise _failed(ClusterError(f"no cluster named {name} is running (running: {others})"))


@cluster_app.command()
def status() -> None:
    """List the clusters that are up."""
    running = EmbeddedCluster.running()
    if not running:
        typer.echo("no cluster is running: llmserving-lab cluster up")
    for cluster in running:
        try:
            state = f"Kubernetes {cluster.kubernetes_version}"
        except ClusterError as error:
            state = str(error)
        typer.echo(f"{cluster.name}\t{state}\tKUBECONFIG={cluster.kubeconfig}")


def _failed(error: ClusterError) -> typer.Exit:
    typer.secho(f"llmserving-lab cluster: {error}", fg=typer.colors.RED, err=True)
    return typer.Exit(1)
