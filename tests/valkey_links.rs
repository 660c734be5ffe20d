//! Connections of the shared engine to its store: a cluster of three, and TLS.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use common::changes::{RULES, add, erase, retract, user};
use common::valkey::{Valkey, config};
use micro_reward::state::{
    Change, MemoryStore, OpenError, Outcome, StoreError, UserStore, ValkeyConfig, ValkeyStore,
};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

/// Upper bound of every wait: a longer one is a defect.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until a condition holds.
async fn until<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let wait = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, wait).await.is_ok(), "{what} never came to be");
}

/// Starts three primaries that know each other and share the slots.
async fn cluster() -> Vec<Valkey> {
    let durable = ["--appendonly", "yes", "--appendfsync", "always"];
    let args = [&["--cluster-enabled", "yes", "--cluster-node-timeout", "3000"][..], &durable].concat();
    let nodes: Vec<Valkey> = (0..3).map(|_| Valkey::with(&args)).collect();
    for (idx, node) in nodes.iter().enumerate() {
        let mut connection = node.connect().await;
        let slots = [(0, 5460), (5461, 10922), (10923, 16383)][idx];
        let commands = [
            redis::cmd("CLUSTER").arg("SET-CONFIG-EPOCH").arg(idx + 1).clone(),
            redis::cmd("CLUSTER").arg("ADDSLOTSRANGE").arg(slots.0).arg(slots.1).clone(),
            redis::cmd("CLUSTER").arg("MEET").arg("127.0.0.1").arg(nodes[0].port).clone(),
        ];
        for command in commands {
            let _: () = command.query_async(&mut connection).await.unwrap();
        }
    }
    for node in &nodes {
        let mut connection = node.connect().await;
        loop {
            let info: String = redis::cmd("CLUSTER").arg("INFO").query_async(&mut connection).await.unwrap();
            if info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3") {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    nodes
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_holds_the_same_rows_as_memory() {
    let mut nodes = cluster().await;
    let urls = nodes[..2].iter().map(|node| node.url().into()).collect();
    let of_cluster = ValkeyConfig { urls, is_cluster: true, ..config(&nodes[0], "t") };
    let store = ValkeyStore::open(of_cluster.clone()).await.unwrap();
    let memory = MemoryStore::new(RULES, NonZeroUsize::new(1000).unwrap());
    for round in 0..10 {
        let mut changes: Vec<Change> = (0..60).map(|n| add(n % 37, round * 60 + n)).collect();
        changes.push(retract(round % 37, round * 60 + 3));
        changes.push(erase((round * 5) % 37, (round * 60) as i64));
        assert_eq!(store.change(changes.clone()).await.unwrap(), memory.change(changes).await.unwrap());
    }
    for n in 0..37 {
        assert_eq!(store.get(user(n), 0).await.unwrap(), memory.get(user(n), 0).await.unwrap());
    }
    assert_eq!(store.n_users(), memory.n_users());
    assert_eq!(store.sample(20).await.unwrap(), memory.sample(20).await.unwrap());
    // The rows are on all nodes, and the functions are where the rows are.
    for node in &nodes {
        let n_keys: u64 = redis::cmd("DBSIZE").query_async(&mut node.connect().await).await.unwrap();
        assert!(n_keys > 0);
        let _: () = redis::cmd("FUNCTION").arg("FLUSH").query_async(&mut node.connect().await).await.unwrap();
    }
    let changes: Vec<Change> = (0..37).map(|n| add(n, 5000)).collect();
    assert_eq!(store.change(changes.clone()).await.unwrap(), memory.change(changes).await.unwrap());

    // A lost node makes the store unreachable; its return ends the outage.
    nodes[1].kill();
    let everybody = || (0..37).map(|n| add(n, 6000)).collect::<Vec<Change>>();
    assert!(matches!(store.change(everybody()).await, Err(StoreError::Unreachable { .. })));
    nodes[1].restart();
    until("the cluster's return", || async { store.change(everybody()).await.is_ok() }).await;
    memory.change(everybody()).await.unwrap();
    let reader = ValkeyStore::open(of_cluster).await.unwrap();
    for n in 0..37 {
        let (here, there) = (reader.get(user(n), 0).await.unwrap(), memory.get(user(n), 0).await.unwrap());
        assert_eq!(here.row.unwrap().ledgers, there.row.unwrap().ledgers);
    }
}

/// Puts TLS before a server, as the one that the tests start has none; returns the port and the certificate that
/// signs for it, in PEM.
async fn with_tls(server: &Valkey) -> (u16, String) {
    let signed = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(signed.signing_key.serialize_der()).unwrap();
    let chain = vec![signed.cert.der().clone()];
    let tls = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, behind) = (listener.local_addr().unwrap().port(), server.port);
    tokio::spawn(async move {
        while let Ok((outside, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut outside) = acceptor.accept(outside).await else { return };
                let mut inside = TcpStream::connect(("127.0.0.1", behind)).await.unwrap();
                // Either side may close the connection.
                _ = copy_bidirectional(&mut outside, &mut inside).await;
            });
        }
    });
    (port, signed.cert.pem())
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_spoken_with_whom_the_ca_file_trusts() {
    let server = Valkey::start();
    let (port, pem) = with_tls(&server).await;
    let over_tls = |ca_pem: Option<Vec<u8>>| ValkeyConfig {
        urls: vec![format!("rediss://localhost:{port}").into()],
        ca_pem,
        ..config(&server, "t")
    };
    let store = ValkeyStore::open(over_tls(Some(pem.into_bytes()))).await.unwrap();
    assert_eq!(store.change(vec![add(1, 1)]).await.unwrap(), [Outcome::Applied(1)]);
    let store = ValkeyStore::open(over_tls(None)).await.unwrap();
    assert!(store.trouble().unwrap().contains("certificate"), "{:?}", store.trouble());
    let refused = ValkeyStore::open(over_tls(Some(b"no certificate".to_vec()))).await;
    assert!(matches!(refused, Err(OpenError::Valkey(_))));
}
