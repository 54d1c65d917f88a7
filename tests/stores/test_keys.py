import os
import stat

import pytest

from penstock.core.clock import SystemClock
from penstock.core.errors import StoreError
from penstock.stores.opening import open_store
from penstock.testing import check_key_store


async def test_in_a_database(stores):
    await check_key_store(stores.keys)


async def test_in_memory():
    await check_key_store(open_store("memory:", SystemClock()).keys)


async def test_the_secret_is_a_file_only_its_owner_reads(stores, path):
    file = path.with_name("penstock.db.secret")
    assert await stores.keys.secret(create=False) is None
    assert not file.exists()
    secret = await stores.keys.secret(create=True)
    assert len(secret) == 32
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert os.listdir(path.parent).count("penstock.db.secret") == 1
    assert not [name for name in os.listdir(path.parent) if name.startswith("penstock.db.secret.")]
    other = open_store(f"sqlite:///{path}", SystemClock())
    assert await other.keys.secret(create=True) == secret


@pytest.mark.parametrize("content", ["", "not hex", "ab" * 16])
async def test_a_damaged_secret_is_an_error_and_never_replaced(stores, path, content):
    file = path.with_name("penstock.db.secret")
    file.write_text(content)
    with pytest.raises(StoreError, match=r"penstock\.db\.secret"):
        await stores.keys.secret(create=True)
    assert file.read_text() == content


async def test_another_process_sees_a_change(stores, path):
    other = open_store(f"sqlite:///{path}", SystemClock())
    await other.start()
    before = await stores.keys.version()
    await check_key_store(other.keys)
    assert await stores.keys.version() > before
    assert await stores.keys.directory() == await other.keys.directory()
    await other.aclose()


async def test_keys_are_kept_over_a_restart_as_hashes(stores, path):
    await check_key_store(stores.keys)
    kept = await stores.keys.directory()
    await stores.aclose()
    again = open_store(f"sqlite:///{path}", SystemClock())
    await again.start()
    assert await again.keys.directory() == kept
    await again.aclose()
