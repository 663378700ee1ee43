//! Connections to the topic servers this node takes slots from, one to each life of a node.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use ringcast_proto::NodeRef;
use ringcast_proto::grpc::{self, AddressError, MESSAGE_BYTES_MAX};
use ringcast_proto::v1::topic_server_client::TopicServerClient;
use tonic::transport::Channel;

use crate::directory::Directory;

#[derive(Default)]
pub(crate) struct Peers {
    clients: Mutex<BTreeMap<NodeRef, TopicServerClient<Channel>>>,
}

impl Peers {
    /// How to call this life of `node`; none when it is not registered.
    pub(crate) fn client(
        &self,
        node: &NodeRef,
        directory: &Directory,
    ) -> Result<Option<TopicServerClient<Channel>>, AddressError> {
        let Some(address) = directory.address(node) else {
            return Ok(None);
        };
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(node) {
            return Ok(Some(client.clone()));
        }
        let client = TopicServerClient::new(grpc::channel(address)?)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        clients.retain(|known, _| directory.address(known).is_some());
        clients.insert(node.clone(), client.clone());
        Ok(Some(client))
    }
}
