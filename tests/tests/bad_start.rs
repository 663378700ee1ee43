//! Processes that must not start: each ends with exit 1 and a sentence that names what is in the way, and the cluster
//! beside it does not notice.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ringcast_tests::cluster::Shape;
use ringcast_tests::ports::Port;
use ringcast_tests::{Client, Cluster, cli};

/// Exit 1 and a sentence that names the port, for every role.
#[tokio::test]
async fn a_port_in_use_is_named_and_ends_the_process() -> Result<()> {
    let cluster = Cluster::start(Shape {
        topic_servers: 1,
        gateways: 1,
        ..Shape::default()
    })
    .await?;
    let taken = cluster.listen("gw-1")?.to_string();
    let free: Vec<Port> = (0..3).map(|_| Port::reserve()).collect::<Result<_>>()?;
    let free: Vec<String> = free.iter().map(|port| port.address().to_string()).collect();
    let folder = cluster.folder().join("other");
    let folder = folder.to_string_lossy();
    let cases: [&[&str]; 4] = [
        &[
            "dev",
            "--listen",
            &taken,
            "--store-listen",
            &free[0],
            "--admin-listen",
            &free[1],
        ],
        &[
            "coordinator",
            "--listen",
            &taken,
            "--data-dir",
            &folder,
            "--admin-listen",
            &free[1],
        ],
        &[
            "topic-server",
            "--id",
            "ts-9",
            "--rpc-listen",
            &taken,
            "--admin-listen",
            &free[1],
            "--store",
            cluster.store(),
        ],
        &[
            "gateway",
            "--id",
            "gw-9",
            "--listen",
            &taken,
            "--rpc-listen",
            &free[0],
            "--admin-listen",
            &free[1],
            "--store",
            cluster.store(),
        ],
    ];
    for arguments in cases {
        let output = cli::run(arguments).await?;
        ensure!(
            output.code == 1,
            "{}: exit code {}: {}",
            arguments[0],
            output.code,
            output.stderr
        );
        let port = taken.rsplit(':').next().unwrap_or_default();
        ensure!(
            output.stderr.contains(port),
            "{}: does not name the port: {}",
            arguments[0],
            output.stderr
        );
        ensure!(
            !output.stderr.contains("panicked"),
            "{}: {}",
            arguments[0],
            output.stderr
        );
    }
    cluster.finish()
}

/// A taken id: 6 s of patience for a restart, then exit 1 and the holder's name; the holder does not notice.
#[tokio::test]
async fn an_id_in_use_is_refused_after_6_s_and_its_holder_is_named() -> Result<()> {
    let cluster = Cluster::start(Shape {
        topic_servers: 1,
        gateways: 1,
        ..Shape::default()
    })
    .await?;
    let mut bystander = Client::connect(cluster.listen("gw-1")?).await?;
    bystander.join("1", "topics:quiet").await?;
    let ports: Vec<Port> = (0..3).map(|_| Port::reserve()).collect::<Result<_>>()?;
    let ports: Vec<String> = ports.iter().map(|port| port.address().to_string()).collect();
    let store = cluster.store();
    let start = std::time::Instant::now();
    let gateway = [
        "gateway",
        "--id",
        "gw-1",
        "--listen",
        &ports[0],
        "--rpc-listen",
        &ports[1],
        "--admin-listen",
        &ports[2],
        "--store",
        store,
    ];
    let output = cli::run(&gateway).await?;
    ensure!(output.code == 1, "exit code {}: {}", output.code, output.stderr);
    ensure!(
        output.stderr.contains("gw-1"),
        "does not name the id: {}",
        output.stderr
    );
    ensure!(
        start.elapsed() >= Duration::from_secs(5),
        "gave up after {:?}",
        start.elapsed()
    );
    let server = [
        "topic-server",
        "--id",
        "ts-1",
        "--rpc-listen",
        &ports[0],
        "--admin-listen",
        &ports[1],
        "--store",
        store,
    ];
    let output = cli::run(&server).await?;
    ensure!(output.code == 1 && output.stderr.contains("ts-1"), "{output:?}");
    bystander.undisturbed().await?;
    cluster.finish()
}

/// A damaged store file: refused with its path and what is wrong, and left as it is.
#[tokio::test]
async fn a_damaged_store_file_is_refused_by_its_path() -> Result<()> {
    let mut cluster = Cluster::start(Shape {
        topic_servers: 1,
        gateways: 1,
        ..Shape::default()
    })
    .await?;
    let (_, took) = cluster.terminate("coordinator", Duration::from_secs(5)).await?;
    eprintln!("the coordinator ended in {took:?}");
    let file = cluster.data_dir().join("ring.snapshot");
    let good = std::fs::read(&file).with_context(|| format!("read {}", file.display()))?;
    let flipped = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 0x10;
        bytes
    };
    let cases = [
        ("a flip at the start", flipped(0)),
        ("a flip in the middle", flipped(good.len() / 2)),
        ("a flip at the end", flipped(good.len() - 1)),
        ("cut in half", good[..good.len() / 2].to_vec()),
        ("empty", Vec::new()),
    ];
    for (what, bytes) in &cases {
        std::fs::write(&file, bytes)?;
        refused(&cluster, &file, what).await?;
        ensure!(&std::fs::read(&file)? == bytes, "{what}: the file was touched");
    }
    std::fs::remove_file(&file)?;
    refused(&cluster, &file, "missing").await?;
    std::fs::write(&file, &good)?;
    cluster.start_again("coordinator")?;
    cluster.ready("coordinator").await?;
    cluster.finish()
}

/// A coordinator over the cluster's folder ends with exit 1 and names the file.
async fn refused(cluster: &Cluster, file: &Path, what: &str) -> Result<()> {
    let ports = [Port::reserve()?, Port::reserve()?].map(|port| port.address().to_string());
    let folder = cluster.data_dir();
    let folder = folder.to_string_lossy();
    let output = cli::run(&[
        "coordinator",
        "--listen",
        &ports[0],
        "--data-dir",
        &folder,
        "--admin-listen",
        &ports[1],
    ])
    .await?;
    ensure!(
        output.code == 1,
        "{what}: exit code {}: {}",
        output.code,
        output.stderr
    );
    ensure!(
        output.stderr.contains(&*file.to_string_lossy()),
        "{what}: does not name the file: {}",
        output.stderr
    );
    ensure!(!output.stderr.contains("panicked"), "{what}: {}", output.stderr);
    Ok(())
}

/// Two coordinators cannot share a folder.
#[tokio::test]
async fn a_folder_in_use_by_a_coordinator_is_refused() -> Result<()> {
    let cluster = Cluster::start(Shape {
        topic_servers: 1,
        gateways: 1,
        ..Shape::default()
    })
    .await?;
    let ports = [Port::reserve()?, Port::reserve()?].map(|port| port.address().to_string());
    let folder = cluster.data_dir();
    let folder = folder.to_string_lossy();
    let output = cli::run(&[
        "coordinator",
        "--listen",
        &ports[0],
        "--data-dir",
        &folder,
        "--admin-listen",
        &ports[1],
    ])
    .await?;
    ensure!(output.code == 1 && output.stderr.contains(&*folder), "{output:?}");
    cluster.finish()
}

/// An unknown key: the nearest known one is named, by every role and by `config check`.
#[tokio::test]
async fn an_unknown_configuration_key_names_the_nearest_known_one() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("ringcast.toml");
    std::fs::write(
        &file,
        "rpc_lisen = \"127.0.0.1:7100\"\n\n[limits]\nprofil = \"bench\"\n",
    )?;
    let file = file.to_string_lossy();
    for arguments in [
        &["config", "check", &file][..],
        &["gateway", "--id", "gw-1", "--config", &file],
        &["topic-server", "--id", "ts-1", "--config", &file],
        &["dev", "--config", &file],
    ] {
        let output = cli::run(arguments).await?;
        let all = format!("{}{}", output.stdout, output.stderr);
        ensure!(output.code != 0, "{}: exit code 0: {all}", arguments[0]);
        for word in ["rpc_lisen", "rpc_listen", "profil", "profile", &*file] {
            ensure!(all.contains(word), "{}: does not say {word}: {all}", arguments[0]);
        }
    }
    Ok(())
}
