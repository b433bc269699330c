//! Enqueue a job in your own transaction: `cargo run -- TENANT_ID CONNECTION_ID`.
//! DATABASE_URL is yours, as role fleet_app; it may lead through PgBouncer.

use std::env;
use std::error::Error;

use tokio_postgres::NoTls;
use uuid::Uuid;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let tenant_id: Uuid = arguments.next().ok_or("TENANT_ID: missing")?.parse()?;
    let connection_id: Uuid = arguments.next().ok_or("CONNECTION_ID: missing")?.parse()?;

    let (mut client, connection) =
        tokio_postgres::connect(&env::var("DATABASE_URL")?, NoTls).await?;
    let driver = tokio::spawn(connection);

    let transaction = client.transaction().await?;
    // Whose transaction this is; gone at its end.
    transaction
        .execute(
            "SELECT set_config('app.tenant_id', $1, true)",
            &[&tenant_id.to_string()],
        )
        .await?;
    // What you have to write yourself goes here: the run exists if and only if it commits.
    let row = transaction
        .query_one(
            "SELECT enqueue_job('telematics.sync_connection', jsonb_build_object('connection_id', $1::uuid),
                                requested_by => 'a Rust application')",
            &[&connection_id],
        )
        .await?;
    let run_id: Uuid = row.get(0);
    transaction.commit().await?;
    println!("{run_id}");

    drop(client);
    driver.await??;
    Ok(())
}
