from pathlib import Path

import pytest

from enhancer.memory import available_memory, shown_bytes

GIB = 1 << 30


def system(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("DOT", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_the_machine_alone(tmp_path):
    root = system(tmp_path, proc__meminfo="MemTotal: 9 kB\nMemAvailable:    2048 kB\n")
    assert available_memory(root) == 2048 * 1024


def test_a_system_that_does_not_tell(tmp_path):
    assert available_memory(tmp_path) is None


@pytest.mark.parametrize(
    "limited", ["sys__fs__cgroup__", "sys__fs__cgroup__outer__", "sys__fs__cgroup__outer__inner__"]
)
def test_the_limit_of_any_group_above_the_process_counts(tmp_path, limited):
    root = system(
        tmp_path,
        proc__meminfo="MemAvailable: 8388608 kB\n",
        proc__self__cgroup="0::/outer/inner\n",
        sys__fs__cgroup__outer__inner__memoryDOTmax="max\n",
        sys__fs__cgroup__outer__inner__memoryDOTcurrent="5\n",
    )
    system(
        root,
        **{
            f"{limited}memoryDOTmax": f"{2 * GIB}\n",
            f"{limited}memoryDOTcurrent": f"{GIB}\n",
            f"{limited}memoryDOTstat": f"anon 5\ninactive_file {GIB // 4}\n",
        },
    )
    assert available_memory(root) == GIB + GIB // 4


def test_groups_of_version_1(tmp_path):
    root = system(
        tmp_path,
        proc__self__cgroup="7:cpu,cpuacct:/job\n4:memory:/job\n",
        sys__fs__cgroup__memory__job__memoryDOTlimit_in_bytes=f"{3 * GIB}",
        sys__fs__cgroup__memory__job__memoryDOTusage_in_bytes=f"{GIB}",
    )
    assert available_memory(root) == 2 * GIB


def test_a_group_over_its_limit_has_nothing_left(tmp_path):
    root = system(
        tmp_path,
        proc__self__cgroup="0::/\n",
        sys__fs__cgroup__memoryDOTmax="5",
        sys__fs__cgroup__memoryDOTcurrent="9",
    )
    assert available_memory(root) == 0


def test_this_machine():
    found = available_memory()
    assert found is None or found > 0


def test_shown():
    assert shown_bytes(3 * GIB // 2) == "1,610,612,736 bytes (1.5 GiB)"
