"""One renewal in a process of its own: reads the account, says so, and renews when it is told to."""

import sys
from uuid import UUID


def main() -> None:
    from db.queries import telematics
    from jobs import process
    from jobs.settings import get_settings
    from jobs.telematics import tokens

    tenant_id, connection_id = UUID(sys.argv[1]), UUID(sys.argv[2])
    database = process.get_database()
    with database.tenant_transaction(tenant_id) as connection:
        account = telematics.find_account(connection, connection_id)
    assert account is not None
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    tokens.renew(database, account, get_settings())
    process.close()


if __name__ == "__main__":
    main()
