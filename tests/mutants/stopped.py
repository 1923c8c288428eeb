"""Interrupted, repeated and simultaneous work: keys, leases, the cache of pixels, what a power cut leaves."""

from tests.mutants.mutant import Mutant

CACHE = "tests/components/cxr/storage/test_node_cache.py"
LEASE = "tests/components/train/test_lease.py"
TRACKED = "tests/components/train/test_tracked.py"
KEYS = "tests/test_keys.py"
STORAGE = "tests/components/cxr/storage/test_storage.py"
RETRIES = "tests/components/train/test_node_retries.py"
POINTERS = "tests/components/cxr/storage/test_pointers.py"

MUTANTS = [
    Mutant(
        "the-cache-is-not-hashed",
        file="components/cxr/storage/node_cache.py",
        old="            if not _is_whole(file, num_bytes):\n                return None\n",
        new="",
        test=f"{CACHE}::test_a_damaged_file_is_noticed_and_made_anew",
    ),
    Mutant(
        "the-cache-is-hashed-at-every-open",
        file="components/cxr/storage/node_cache.py",
        old="return known == identity and",
        new="return False and known == identity and",
        test=f"{CACHE}::test_the_file_is_hashed_at_the_first_open_alone",
    ),
    Mutant(
        "the-most-recently-used-is-evicted",
        file="components/cxr/storage/node_cache.py",
        old="key=lambda item: _last_used(*item))",
        new="key=lambda item: -_last_used(*item))",
        test=f"{CACHE}::test_the_least_recently_used_is_evicted",
    ),
    Mutant(
        "pixels-in-use-are-evicted",
        file="components/cxr/storage/node_cache.py",
        old="            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)\n            num_bytes",
        new="            num_bytes",
        test=f"{CACHE}::test_what_is_in_use_is_never_evicted",
    ),
    Mutant(
        "a-maker-is-not-waited-for",
        file="components/cxr/storage/node_cache.py",
        old="                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))\n",
        new="                pass\n",
        test=f"{CACHE}::test_one_process_makes_a_file_and_the_others_wait_for_it",
    ),
    Mutant(
        "a-waiter-makes-the-file-again",
        file="components/cxr/storage/node_cache.py",
        old="            found = _open(path)  # made meanwhile by the one that was waited for\n",
        new="",
        test=f"{CACHE}::test_one_process_makes_a_file_and_the_others_wait_for_it",
    ),
    Mutant(
        "a-file-that-was-removed-before-its-lock-is-written",
        file="components/cxr/storage/node_cache.py",
        old="        if _is_at(file, partial):\n",
        new="        if True:\n",
        test=f"{CACHE}::test_a_new_file_that_was_taken_for_abandoned_is_begun_again",
    ),
    Mutant(
        "a-removed-lock-is-taken-for-the-files",
        file="components/cxr/storage/node_cache.py",
        old="            if not _is_at(file, path):\n",
        new="            if False:\n",
        test=f"{CACHE}::test_a_waiter_that_got_a_removed_lock_asks_again",
    ),
    Mutant(
        "a-shard-is-read-for-its-pixels-and-for-its-columns",
        file="components/cxr/model/shard_cache.py",
        old='        self._table(lambda: table.drop_columns("pixels"))\n',
        new="",
        test="tests/components/cxr/model/test_shard_cache.py::test_a_shard_is_read_once",
    ),
    Mutant(
        "a-file-is-renamed-before-its-bytes-are-on-the-disk",
        file="components/cxr/storage/atomic.py",
        old="    _flush(partial)\n    partial.replace(target)\n",
        new="    partial.replace(target)\n",
        test=f"{STORAGE}::test_bytes_and_name_reach_the_disk_before_the_file_counts_as_there",
    ),
    Mutant(
        "a-signal-in-the-making-of-a-file-leaves-it",
        file="components/cxr/storage/atomic.py",
        old="    try:\n        handle = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)\n",
        new="    handle = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)\n    try:\n",
        test=f"{STORAGE}::test_a_signal_right_after_the_call_that_makes_a_file_leaves_nothing",
    ),
    Mutant(
        "what-a-stop-interrupted-in-its-removal-stays",
        file="components/cxr/cli.py",
        old="            discard_partials()  # a signal's",
        new="            # a signal's",
        test="tests/components/preprocess/test_main.py::test_what_an_interrupted_removal_left_is_removed",
    ),
    Mutant(
        "an-empty-pointer-is-a-traceback",
        file="components/cxr/storage/pointers.py",
        old="except (ValueError, KeyError, TypeError):",
        new="except (KeyError, TypeError):",
        test=f"{POINTERS}::test_a_damaged_pointer_is_one_clear_error",
    ),
    Mutant(
        "a-dead-process-of-this-machine-is-waited-for",
        file="components/train/lease.py",
        old="            return _started(holder.pid) != holder.started\n",
        new="            return False\n",
        test=f"{LEASE}::test_a_restarted_process_with_the_same_number_is_another_one",
        hangs=True,
        limit=30.0,
    ),
    Mutant(
        "a-zombie-counts-as-alive",
        file="components/train/lease.py",
        old='None if fields[0] in "ZX" else ',
        new="",
        test=f"{LEASE}::test_a_second_trainer_of_this_machine_is_refused_at_once",
    ),
    Mutant(
        "a-lease-is-not-renewed-between-checkpoints",
        file="components/train/lease.py",
        old="                self.renew()\n",
        new="                pass\n",
        test=f"{LEASE}::test_a_held_lease_is_renewed_without_checkpoints",
    ),
    Mutant(
        "a-lost-lease-is-deleted",
        file="components/train/lease.py",
        old="            if self._storage.read(LEASE).generation == self._generation:\n                self._storage",
        new="            self._storage",
        test=f"{LEASE}::test_who_lost_the_lease_writes_no_checkpoint_and_leaves_the_new_holders_lease",
    ),
    Mutant(
        "sigterm-leaves-a-run-running",
        file="components/cxr/tracking/tracking.py",
        old="        with sigterm_raises():\n            yield tracked\n",
        new="        yield tracked\n",
        test="tests/components/cxr/tracking/test_tracking.py::test_sigterm_leaves_a_killed_run_and_none_that_seems_to_run",
    ),
    Mutant(
        "the-bundle-names-a-deleted-run",
        file="components/train/tracked.py",
        old="    progress.run_id = tracked.id\n",
        new="    progress.run_id = progress.run_id or tracked.id\n",
        test=f"{TRACKED}::test_a_deleted_run_is_replaced_by_a_whole_one",
    ),
    Mutant(
        "the-journal-in-a-bucket-goes-up-at-the-end-alone",
        file="components/train/checkpoint.py",
        old="    if tracked is not None:\n        upload_journal(storage, tracked.journal)\n",
        new="",
        test=f"{TRACKED}::test_the_journal_in_a_bucket_survives_a_kill",
    ),
    Mutant(
        "a-training-is-reused-after-its-code-changed",
        file="components/train/train.py",
        old='content_hash(f"train {VERSION}", ',
        new="content_hash(",
        test=f"{KEYS}::test_versions_of_code_and_schema_are_in_the_keys",
    ),
    Mutant(
        "a-report-of-another-schema-is-asked-for-ever",
        file="components/evaluate/evaluate.py",
        old='f"report {SCHEMA_VERSION}", ',
        new="",
        test=f"{KEYS}::test_versions_of_code_and_schema_are_in_the_keys",
    ),
    Mutant(
        "pretrained-weights-count-by-name",
        file="components/train/train.py",
        old='update={"architecture": by_content(config.architecture)}',
        new='update={"architecture": config.architecture}',
        test=f"{KEYS}::test_pretrained_weights_count_by_content",
    ),
    Mutant(
        "the-seed-is-not-in-the-key",
        file="components/train/config.py",
        old='"num_workers", "device",\n',
        new='"num_workers", "device", "seed",\n',
        test=f"{KEYS}::test_checkpoints_and_bundles",
    ),
    Mutant(
        "robertas-positions-start-at-zero",
        file="components/train/pretrained.py",
        old="    if model_type in _OFFSET_POSITIONS:\n",
        new="    if False:\n",
        test=f"{KEYS}::test_texts_fit_the_encoders_positions",
    ),
    Mutant(
        "a-stop-in-validation-leaves-that-epoch-unvalidated",
        file="components/train/train.py",
        old="    if progress.validated < first_epoch:",
        new="    if progress.validated < 0:",
        test="tests/components/train/test_sigterm.py::test_a_training_that_is_stopped_in_validation_validates_again",
    ),
    Mutant(
        "a-job-whose-nodes-were-stopped-has-failed-for-good",
        file="components/train/nodes.py",
        old="2 not in codes and (AGAIN in codes or any(",
        new="2 not in codes and (any(",
        test=f"{RETRIES}::test_a_job_whose_nodes_were_taken_away_is_started_again",
    ),
    Mutant(
        "a-users-mistake-is-tried-again",
        file="components/train/nodes.py",
        old="2 not in codes and (AGAIN",
        new="(AGAIN",
        test=f"{RETRIES}::test_a_job_whose_nodes_were_taken_away_is_started_again",
    ),
    Mutant(
        "a-preempted-pod-has-failed-for-good",
        file="components/cxr/cluster/kube.py",
        old='disrupted=any(entry.status == "True" for entry in taken),',
        new="disrupted=False,",
        test=f"{RETRIES}::test_a_job_whose_nodes_were_taken_away_is_started_again",
    ),
]
