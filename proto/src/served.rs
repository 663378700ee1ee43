//! A node for tests: a gRPC service on a port of its own, until it is dropped.

use std::convert::Infallible;

use tokio::sync::oneshot;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::server::NamedService;

use crate::accept::{Acceptor, listen};
use crate::grpc;

pub(crate) struct Served {
    pub(crate) address: String,
    _stop: oneshot::Sender<()>,
}

impl Served {
    pub(crate) fn start<S>(service: S) -> Served
    where
        S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send,
    {
        let (stop, stopped) = oneshot::channel::<()>();
        let (told, address) = std::sync::mpsc::channel();
        let server = async move {
            let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
            told.send(listener.local_addr().unwrap().to_string()).unwrap();
            let incoming = Acceptor::new(listener).into_stream();
            // It ends with the test, whatever that leaves open.
            let served = grpc::server().serve_with_incoming(service, incoming);
            tokio::select! {
                served = served => served.unwrap(),
                _ = stopped => {}
            }
        };
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(server);
        });
        Served {
            address: address.recv().unwrap(),
            _stop: stop,
        }
    }
}
