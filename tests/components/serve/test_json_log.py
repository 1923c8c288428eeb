import json
import logging
import logging.config

import pytest

from components.serve.json_log import LOGGING, JsonLines, facts, note, request_id_of


def _line(name, message, *args, **extra):
    record = logging.getLogger(name).makeRecord(name, logging.WARNING, "/somewhere/file.py", 7, message, args, **extra)
    return json.loads(JsonLines().format(record))


def test_the_words_and_tracebacks_of_other_libraries_are_left_out():
    assert _line("cxrflow.requests", "request %d", 5, exc_info=None)["message"] == "request 5"
    try:
        raise ValueError("Jane Doe coughs")
    except ValueError as error:
        told = _line("pydicom", "a value of %s", "Jane", exc_info=(ValueError, error, error.__traceback__))
    assert told["message"] == "at file.py:7"
    assert told["error"] == "ValueError"
    assert told["place"].startswith("test_json_log.py:")
    assert "Jane" not in json.dumps(told)


def test_a_fact_with_words_is_withheld():
    told = _line(
        "cxrflow", "request", exc_info=None, extra={"facts": {"code": "film-truncated", "x": "Jane Doe", "n": 3}}
    )
    assert (told["code"], told["x"], told["n"]) == ("film-truncated", "(withheld)", 3)


def test_facts_belong_to_the_request_that_is_answered():
    note(code="nobody's")
    token = facts.set(found := {})
    note(code="busy", films=2)
    facts.reset(token)
    assert found == {"code": "busy", "films": 2}


@pytest.mark.parametrize(
    "sent", [None, b"", b"Jane", b"\xff", b"19999999", b"0" * 31, b"0f8fad5bd9cb469fa16570867728950e\n"]
)
def test_an_id_that_could_name_somebody_is_replaced(sent):
    assert len(request_id_of(sent)) == 36
    assert request_id_of(sent) != request_id_of(sent)


def test_the_configuration_is_one_that_logging_takes(capsys):
    before = logging.getLogger().handlers[:]
    try:
        logging.config.dictConfig(LOGGING)
        logging.getLogger("cxrflow.requests").info("request", extra={"facts": {"status": 200}})
        assert json.loads(capsys.readouterr().err)["status"] == 200
    finally:
        logging.getLogger().handlers[:] = before
        for name in ("cxrflow", "uvicorn"):
            logger = logging.getLogger(name)
            logger.handlers.clear()
            logger.propagate = True
            logger.setLevel(logging.NOTSET)
