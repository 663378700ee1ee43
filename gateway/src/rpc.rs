//! What other nodes, and the command line, ask of a gateway.

use std::sync::Arc;

use bytes::Bytes;
use ringcast_gateway_core::gateway::ServerPublish;
use ringcast_gateway_core::phoenix::{Json, Payload, is_object, json_payload};
use ringcast_proto::grpc::{self, Answers, TopicIds};
use ringcast_proto::v1::gateway_server::{Gateway, GatewayServer};
use ringcast_proto::{Topic, v1};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::hub::Hub;
use crate::ring::Cluster;

/// The service of the rpc listener.
pub(crate) struct Service {
    cluster: Arc<Cluster>,
    hub: Hub,
    stop: CancellationToken,
}

impl Service {
    pub(crate) fn server(cluster: Arc<Cluster>, hub: Hub, stop: CancellationToken) -> GatewayServer<Service> {
        GatewayServer::new(Service { cluster, hub, stop })
            .max_decoding_message_size(grpc::MESSAGE_BYTES_MAX)
            .max_encoding_message_size(grpc::MESSAGE_BYTES_MAX)
    }
}

async fn deliver(
    cluster: Arc<Cluster>,
    hub: Hub,
    call: v1::DeliverCall,
) -> Result<v1::DeliverAnswer, Status> {
    let mismatch = cluster.check(call.header.as_ref());
    mismatch.map_err(|mismatch| Status::failed_precondition(mismatch.to_string()))?;
    let answer = hub.deliver(call.entries).await;
    let mut answer = answer.map_err(|gone| Status::unavailable(gone.to_string()))?;
    answer.incarnation = cluster.node().incarnation.0;
    Ok(answer)
}

#[tonic::async_trait]
impl Gateway for Service {
    type DeliverStream = Answers<v1::DeliverAnswer>;

    async fn deliver(
        &self,
        calls: Request<Streaming<v1::DeliverCall>>,
    ) -> Result<Response<Self::DeliverStream>, Status> {
        let (cluster, hub) = (Arc::clone(&self.cluster), self.hub.clone());
        let mut topic_ids = TopicIds::default();
        let answers = grpc::answer_deliveries(
            calls.into_inner(),
            self.stop.clone().cancelled_owned(),
            move |mut call| {
                let resolved = topic_ids.resolve(&mut call);
                let (cluster, hub) = (Arc::clone(&cluster), hub.clone());
                async move {
                    resolved.map_err(|unknown| Status::invalid_argument(unknown.to_string()))?;
                    deliver(cluster, hub, call).await
                }
            },
        );
        Ok(Response::new(answers))
    }

    async fn server_publish(
        &self,
        request: Request<v1::ServerPublishRequest>,
    ) -> Result<Response<v1::ServerPublishReply>, Status> {
        let answer = match parse(request.into_inner()) {
            Some(publish) => {
                let answer = self.hub.publish(publish).await;
                answer.map_err(|gone| Status::unavailable(gone.to_string()))?
            }
            None => Err("bad_request"),
        };
        Ok(Response::new(match answer {
            Ok(published) => v1::ServerPublishReply {
                error: String::new(),
                epoch: published.epoch.as_str().to_owned(),
                offset: published.offset.map_or(0, |offset| offset.0),
                matched: published.matched.unwrap_or(0),
            },
            Err(reason) => v1::ServerPublishReply {
                error: reason.to_owned(),
                ..Default::default()
            },
        }))
    }

    async fn list_connections(
        &self,
        request: Request<v1::ListConnectionsRequest>,
    ) -> Result<Response<v1::ListConnectionsReply>, Status> {
        let request = request.into_inner();
        let order = v1::ConnectionOrder::try_from(request.order)
            .map_err(|_| Status::invalid_argument(format!("no order {}", request.order)))?;
        let limit = usize::try_from(request.limit).unwrap_or(usize::MAX);
        let reply = self.hub.top(order, limit).await;
        Ok(Response::new(
            reply.map_err(|gone| Status::unavailable(gone.to_string()))?,
        ))
    }
}

/// A publish that any client could have made as well.
fn parse(request: v1::ServerPublishRequest) -> Option<ServerPublish> {
    let topic = Topic::parse(request.topic.as_bytes()).ok()?;
    let payload = Json::parse(request.payload)?;
    let Payload::Json(payload) = json_payload(payload) else {
        return None;
    };
    let event = (1..=255).contains(&request.event.len()) && is_object(&payload);
    event.then(|| ServerPublish {
        topic,
        event: request.event.into(),
        payload: payload.0,
        msg_id: Bytes::new(),
        target: v1::Target::All,
        names: Vec::new(),
    })
}
