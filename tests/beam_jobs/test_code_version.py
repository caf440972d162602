from beam_jobs.code_version import _sources, code_version, library_version


def test_it_covers_what_a_module_imports_however_far_away() -> None:
    found = {f"{path.parent.name}/{path.name}" for path in _sources("curation.duplicates")}
    assert {"curation/duplicates.py", "curation/phash.py", "schemas/records.py", "schemas/states.py"} <= found
    assert "media/cut.py" not in found


def test_it_depends_on_code_and_libraries_alone() -> None:
    assert code_version("curation.duplicates") == code_version("curation.duplicates")
    assert code_version("curation.duplicates") != code_version("curation.filters")
    assert code_version("curation.duplicates") != code_version("curation.duplicates", "numpy")


def test_settings_are_values_not_code() -> None:
    assert not any(path.name == "settings.py" for path in _sources("curation.filters"))


def test_a_library_that_is_missing() -> None:
    assert library_version("no-such-library-at-all") == "none"
