//! The suite on a coordinator: real sockets, a real file.

use ringcast_ring_store::coordinator::Config;
use ringcast_ring_store::{AnyStore, Coordinator, state};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::harness::Harness;

struct OverSockets {
    url: String,
    // Dropped with the harness: the server is aborted, then its folder goes.
    _server: JoinSet<()>,
    _folder: tempfile::TempDir,
}

impl Harness for OverSockets {
    async fn start() -> OverSockets {
        let folder = tempfile::tempdir().unwrap();
        let config = Config {
            listen: ([127, 0, 0, 1], 0).into(),
            data_dir: folder.path().join("data"),
        };
        let coordinator = Coordinator::build(&config).unwrap();
        let url = format!("http://{}", coordinator.local_addr());
        let mut server = JoinSet::new();
        server.spawn(async move { coordinator.run(CancellationToken::new()).await.unwrap() });
        OverSockets {
            url,
            _server: server,
            _folder: folder,
        }
    }

    fn store(&self) -> AnyStore {
        AnyStore::open(&self.url).unwrap()
    }

    fn window_len(&self) -> usize {
        state::WINDOW_LEN
    }
}

crate::conformance!(super::OverSockets);
