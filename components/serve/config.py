"""Section `serve` of the configuration."""

from __future__ import annotations

from pydantic import Field

from components.cxr.config import Config

__all__ = ["ServeConfig"]

MIB = 1 << 20


class ServeConfig(Config):
    """The server, its limits, and the check before a model goes into service."""

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 inside a container."""
    port: int = Field(8000, ge=0, le=65535)
    """Port to listen on; 0 takes a free one."""
    threads: int = Field(1, ge=1)
    """Threads of one prediction; predictions themselves run one after another."""
    max_files: int = Field(8, ge=1)
    """Films a request."""
    max_file_bytes: int = Field(64 * MIB, ge=1)
    """Size of one film's file."""
    max_request_bytes: int = Field(128 * MIB, ge=1)
    """Size of a whole request; requests are held in memory."""
    max_text_chars: int = Field(20_000, ge=1)
    """Length of the text."""
    max_requests: int = Field(16, ge=1)
    """Requests that are uploaded, waiting or answered at a time; more are sent away with 503."""
    timeout_s: float = Field(60.0, gt=0.0)
    """Seconds for a request's upload, and again for its answer."""
    golden_tolerance: float = Field(1e-4, gt=0.0, lt=1.0)
    """Largest difference of a probability between evaluation and the server for the model to be deployed."""
    startup_timeout_s: float = Field(120.0, gt=0.0)
    """Seconds until a server that is started for the check must answer."""
