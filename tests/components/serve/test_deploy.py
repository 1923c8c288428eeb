import contextlib
from pathlib import Path

import pytest

from components.cxr.bundle import load_bundle
from components.cxr.errors import UserError
from components.cxr.operating_points import MODEL_CARD, load_operating_points, write_operating_points
from components.cxr.report import REPORT, ThresholdRule, write_report
from components.cxr.seal import load_seal
from components.cxr.storage.local import LocalStorage
from components.cxr.storage.storage import ABSENT, Root
from components.serve import deploy as step
from components.serve.config import ServeConfig
from components.serve.deploy import deploy
from components.serve.deployment import Deployment, read_deployment, write_deployment
from components.serve.golden import running_server
from components.serve.predictor import StudyPredictor


def _deploy(world, **config):
    return deploy(
        ServeConfig(**config),
        root=world.root,
        bundle=world.bundle,
        evaluation=world.evaluation,
        manifest=world.manifest,
    )


@pytest.fixture
def quick(monkeypatch, server):
    """Deployments that check against the server that is running already; the list counts them."""
    checks = []

    @contextlib.contextmanager
    def running(_config, bundle, evaluation=None, *, seal=None):
        assert (evaluation is None) == (seal is not None)
        checks.append(bundle.uri)
        yield server

    monkeypatch.setattr(step, "running_server", running)
    return checks


def _in_service(world, bundle_hash):
    deployment = Deployment(
        bundle="elsewhere",
        seal="0" * 64,
        bundle_hash=bundle_hash,
        operating_points_hash="0" * 16,
        evaluation="elsewhere",
        data="elsewhere",
        manifest_hash="0",
        mlflow_run_id=None,
        model_name=None,
        model_version=None,
    )
    write_deployment(world.root, deployment, over=read_deployment(world.root).generation)


def _bytes(storage):
    return {name: storage.read(name).data for name in storage.sizes()}


def _published(world):
    return list(world.root.deployed().sizes())


@pytest.mark.usefixtures("quick")
def test_deploy_publishes_what_answers_as_in_evaluation(world, capsys):
    done = _deploy(world)
    assert done == read_deployment(world.root).deployment
    assert done.bundle_hash == world.report.bundle_hash
    name = f"{world.report.bundle_hash[:16]}-{world.report.operating_points_hash}"
    assert done.bundle == f"deployed/{name}"
    assert done.operating_points_hash == world.report.operating_points_hash
    assert (done.evaluation, done.data) == ("evaluations/tiny", world.manifest.storage.uri)
    assert done.manifest_hash == world.manifest.hash
    assert done.previous == ()
    copy = world.root.at(done.bundle)
    assert load_seal(copy).hash == done.seal
    assert load_bundle(copy).hash == world.report.bundle_hash
    points = load_operating_points(copy, bundle_hash=done.bundle_hash)
    assert points.hash == done.operating_points_hash
    for name in (MODEL_CARD, REPORT):
        assert copy.read(name) == world.evaluation.read(name)
    lines = capsys.readouterr().out.splitlines()
    num_studies = len(world.report.golden)
    checked = f"{4 * num_studies} answers to {num_studies} studies"
    assert lines[0] == f"serve: {checked} are evaluation's, within 0.0001"
    assert lines[1].startswith("serve: deployed model ")


@pytest.mark.slow
def test_deploy_starts_a_server_and_stops_it(world, monkeypatch):
    servers = []

    @contextlib.contextmanager
    def remembered(config, bundle, evaluation):
        with running_server(config, bundle, evaluation) as server:
            servers.append(server)
            yield server

    monkeypatch.setattr(step, "running_server", remembered)
    assert _deploy(world).bundle_hash == world.report.bundle_hash
    assert [server.process.returncode for server in servers] == [0]


def test_what_is_current_is_not_deployed_again(world, quick, capsys):
    first = _deploy(world)
    world.decide(promoted=False, champion_bundle=first.bundle_hash)
    assert _deploy(world) == first
    assert len(quick) == 1
    assert f"serve: already deployed, model {first.bundle_hash[:16]}" in capsys.readouterr().out


def _spoil(copy, how):
    folder = Path(copy.uri)
    if how == "deleted":
        copy.delete_all()
    elif how == "partial":
        (folder / "weights.safetensors").unlink()
        (folder / "tokenizer" / ".partial-left").write_bytes(b"half")
    elif how == "damaged":
        data = bytearray((folder / "weights.safetensors").read_bytes())
        data[-1] ^= 1
        (folder / "weights.safetensors").write_bytes(data)
    else:
        (folder / "tokenizer" / "added_tokens.json").write_text("{}")


@pytest.mark.parametrize("how", ["deleted", "partial", "damaged", "added to"])
def test_deploying_again_repairs_the_copy_and_checks_it(world, quick, capsys, how):
    first = _deploy(world)
    copy = world.root.at(first.bundle)
    before = _bytes(copy)
    _spoil(copy, how)
    world.decide(promoted=False, champion_bundle=first.bundle_hash)
    assert _deploy(world) == first == read_deployment(world.root).deployment
    assert _bytes(copy) == before
    assert list(Path(copy.uri).rglob(".partial-*")) == []
    assert quick == [world.bundle.uri, copy.uri]
    assert "serve: the deployed copy is damaged and made again: " in capsys.readouterr().out


def test_a_copy_is_not_repaired_from_other_originals(world, quick):
    first = _deploy(world)
    copy = world.root.at(first.bundle)
    _spoil(copy, "damaged")
    damaged = _bytes(copy)
    golden = world.report.golden[:-1]
    write_report(world.evaluation, world.report.model_copy(update={"golden": golden}))
    with pytest.raises(UserError, match="cannot be made again: its originals are others now"):
        _deploy(world)
    assert _bytes(copy) == damaged
    assert len(quick) == 1


@pytest.mark.usefixtures("quick")
def test_a_moved_root_serves_what_it_holds(world, tmp_path):
    first = _deploy(world)
    Path(world.root.uri).rename(tmp_path / "moved")
    root = Root(tmp_path / "moved")
    found = read_deployment(root).deployment
    assert found == first
    assert StudyPredictor(root.at(found.bundle), seal=found.seal).bundle.hash == first.bundle_hash
    moved = world._replace(root=root, bundle=root.bundle("tiny"), evaluation=root.evaluation("tiny"))
    assert _deploy(moved) == first


def test_a_later_evaluation_does_not_change_what_is_served(world, quick, tmp_path, capsys):
    """With another threshold rule; neither the bundle nor its deployed copy changes, nor does a second deployment."""
    from components.cxr.bundle_info import describe
    from components.cxr.storage.storage import open_storage
    from components.evaluate.config import EvaluateConfig
    from components.evaluate.predict import predict
    from components.evaluate.score import score

    first = _deploy(world)
    copy = world.root.at(first.bundle)
    trained, deployed = (_bytes(storage) for storage in (world.bundle, copy))
    config, model = EvaluateConfig(num_bootstrap=100, threshold=ThresholdRule(rule="f1")), describe(world.bundle)
    scores = predict(config, storage=open_storage(tmp_path), bundle=world.bundle, model=model, manifest=world.manifest)
    found = score(config, model, scores, manifest_hash=world.manifest.hash, run_id=None)
    again = world._replace(evaluation=world.root.evaluation("f1"), report=found.report)
    write_operating_points(again.evaluation, found.points)
    write_report(again.evaluation, found.report)
    again.decide(promoted=False, champion_bundle=first.bundle_hash)
    assert found.points.hash != first.operating_points_hash
    assert _deploy(again) == first
    assert "the operating points stay those of evaluations/tiny" in capsys.readouterr().out
    assert (_bytes(world.bundle), _bytes(copy)) == (trained, deployed)
    assert StudyPredictor(copy).points.hash == world.report.operating_points_hash
    assert len(quick) == 1


def test_operating_points_of_another_evaluation_are_not_deployed(world, quick):
    points = load_operating_points(world.evaluation, bundle_hash=world.report.bundle_hash)
    edema = points.conditions["all"]["Edema"].model_copy(update={"threshold": 0.01})
    conditions = points.conditions | {"all": points.conditions["all"] | {"Edema": edema}}
    write_operating_points(world.evaluation, points.model_copy(update={"conditions": conditions}))
    with pytest.raises(UserError, match="operating points and report are of two evaluations"):
        _deploy(world)
    assert quick == []
    assert _published(world) == []


def test_the_model_that_was_compared_is_replaced(world, quick):
    _in_service(world, "a" * 64)
    world.decide(champion_bundle="a" * 64)
    assert [before.bundle_hash for before in _deploy(world).previous] == ["a" * 64]
    assert quick == [world.bundle.uri]


def test_a_tampered_expectation_publishes_nothing(world, quick):
    study = world.report.golden[0]
    wrong = study.model_copy(update={"probabilities": study.probabilities | {"Edema": 0.123}})
    write_report(world.evaluation, world.report.model_copy(update={"golden": (wrong,)}))
    with pytest.raises(UserError, match="the server's answer is not evaluation's: golden study 1 of 1, Edema"):
        _deploy(world)
    assert quick
    assert _published(world) == []


@pytest.mark.parametrize(
    ("in_service", "compared", "message"),
    [
        ("b" * 64, "a" * 64, r"found b{16}, expected a{16}\."),
        ("b" * 64, None, r"found b{16}, expected none\."),
        (None, "a" * 64, r"found none, expected a{16}\."),
    ],
)
def test_a_stale_comparison_is_refused(world, quick, in_service, compared, message):
    if in_service:
        _in_service(world, in_service)
    before = _published(world)
    world.decide(champion_bundle=compared)
    with pytest.raises(UserError, match=message):
        _deploy(world)
    assert quick == []
    assert _published(world) == before


def test_a_deployment_in_the_meantime_wins(world, quick, monkeypatch):
    copy = step.make_copy

    def meanwhile(*places):
        _in_service(world, "c" * 64)
        return copy(*places)

    monkeypatch.setattr(step, "make_copy", meanwhile)
    with pytest.raises(UserError, match="another model was deployed meanwhile"):
        _deploy(world)
    assert quick
    assert read_deployment(world.root).deployment.bundle_hash == "c" * 64


def test_after_a_crash_during_the_copy_deploy_completes(world, quick, monkeypatch):
    upload = LocalStorage.upload

    def crash(self, source, name):
        if name.endswith(".safetensors"):
            raise KeyboardInterrupt
        upload(self, source, name)

    with monkeypatch.context() as patch:
        patch.setattr(LocalStorage, "upload", crash)
        with pytest.raises(KeyboardInterrupt):
            _deploy(world)
    assert read_deployment(world.root) == (None, ABSENT)
    assert load_bundle(world.root.at(_deploy(world).bundle)).hash == world.report.bundle_hash
    assert len(quick) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"promoted": False, "reason": "not better."}, "was not promoted.*not better"),
        ({"challenger_bundle": "d" * 64}, "decision and report are of two models"),
    ],
)
def test_what_was_not_decided_is_refused(world, quick, changes, message):
    world.decide(**changes)
    with pytest.raises(UserError, match=message):
        _deploy(world)
    assert quick == []


def test_other_data_is_refused(world, quick):
    write_report(world.evaluation, world.report.model_copy(update={"manifest_hash": "0" * 64}))
    with pytest.raises(UserError, match="evaluated on other data"):
        _deploy(world)
    assert quick == []


def test_no_golden_studies_are_no_check(world, quick):
    write_report(world.evaluation, world.report.model_copy(update={"golden": ()}))
    with pytest.raises(UserError, match="no golden studies"):
        _deploy(world)
    assert quick == []


def test_no_evaluation_is_one_clear_line(world):
    world.evaluation.delete_all()
    with pytest.raises(UserError, match="no complete evaluation here"):
        _deploy(world)


def test_champion_moves_with_the_model_and_the_run_is_tagged(world, quick):
    from components.cxr.tracking.mlflow_server import with_client

    def register(client):
        run = client.create_run(client.create_experiment("test")).info.run_id
        client.create_registered_model("cxr")
        versions = [client.create_model_version("cxr", source=world.bundle.uri).version for _ in range(3)]
        client.set_registered_model_alias("cxr", "champion", versions[0])
        return run, [str(version) for version in versions]

    run, (old, new, other) = with_client(world.root, register)
    write_report(world.evaluation, world.report.model_copy(update={"mlflow_run_id": run}))
    world.decide(registered_model="cxr", challenger_version=new, champion_version=other)
    with pytest.raises(UserError, match=f"found version {old}, expected version {other}"):
        _deploy(world)
    assert quick == []

    world.decide(registered_model="cxr", challenger_version=new, champion_version=old)
    done = _deploy(world)
    assert (done.model_name, done.model_version, done.mlflow_run_id) == ("cxr", new, run)

    def state(client):
        champion = client.get_model_version_by_alias("cxr", "champion").version
        return str(champion), client.get_run(run).data.tags["deployed"]

    assert with_client(world.root, state) == (new, world.root.at(done.bundle).uri)

    # A crash after the pointer and before MLflow: running it again completes it.
    with_client(world.root, lambda client: client.set_registered_model_alias("cxr", "champion", old))
    _deploy(world)
    assert with_client(world.root, state)[0] == new
    assert len(quick) == 1


def test_a_model_that_mlflow_could_not_be_told_of_is_registered_before_it_becomes_champion(world, quick):
    from components.cxr.bundle_info import describe
    from components.cxr.decision import load_decision
    from components.cxr.operating_points import OPERATING_POINTS
    from components.cxr.tracking.outbox import Outbox
    from components.cxr.tracking.tracking import with_client

    info = describe(world.bundle).info
    told = {
        "name": "late",
        "pathologies": info.pathologies,
        "params": {},
        "identity": {"bundle_hash": world.report.bundle_hash},
        "tags": {},
        "description": "",
    }
    folders = {"bundle": world.bundle.uri, "evaluation": world.evaluation.uri}
    box = Outbox(world.root, "k", experiment="late", run_id=None, run_name="late", source="components.evaluate")
    box.add("model", told | folders | {"files": [OPERATING_POINTS, MODEL_CARD]})
    world.decide(registered_model=None)
    done = _deploy(world)
    assert len(quick) == 1
    assert (done.model_name, done.model_version) == ("late", "1")
    champion = with_client(world.root, lambda client: client.get_model_version_by_alias("late", "champion"))
    assert str(champion.version) == "1"
    assert load_decision(world.evaluation).challenger_version == "1"


@pytest.mark.usefixtures("quick")
def test_a_failed_check_leaves_the_champion_alone(world):
    from components.cxr.tracking.tracking import with_client

    def register(client):
        client.create_registered_model("cxr")
        versions = [client.create_model_version("cxr", source=world.bundle.uri).version for _ in range(2)]
        client.set_registered_model_alias("cxr", "champion", versions[0])
        return [str(version) for version in versions]

    old, new = with_client(world.root, register)
    study = world.report.golden[0]
    wrong = study.model_copy(update={"probabilities": study.probabilities | {"Edema": 0.123}})
    write_report(world.evaluation, world.report.model_copy(update={"golden": (wrong,)}))
    world.decide(registered_model="cxr", challenger_version=new, champion_version=old)
    with pytest.raises(UserError, match="is not evaluation's"):
        _deploy(world)
    champion = with_client(world.root, lambda client: client.get_model_version_by_alias("cxr", "champion").version)
    assert str(champion) == old
