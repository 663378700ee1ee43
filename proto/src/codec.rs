//! How the calls of lanes are encoded: with numbers for topics, and what is delivered without a copy of what the lane keeps.
//!
//! Leaves out: when calls are made (`calls`), and what the numbers mean (`topic_ids`).

use std::marker::PhantomData;
use std::sync::Arc;

use bytes::BufMut;
use prost::Message as _;
use prost::encoding::{self, WireType};
use tonic::client::Grpc;
use tonic::codec::{Codec, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

use crate::calls::Outgoing;
use crate::grpc::MESSAGE_BYTES_MAX;
use crate::topic_ids::Numbers;
use crate::v1::{CallHeader, DeliverAnswer, DeliverEntry, PublishAnswer, PublishCall};

/// A call of `Deliver`; whoever makes it keeps the entries until they are answered.
#[derive(Debug, Clone)]
pub struct SharedCall {
    /// To whom, from whom.
    pub header: CallHeader,
    /// In the order they came.
    pub entries: Arc<Vec<DeliverEntry>>,
    /// One answer may be for it and calls after it.
    pub may_wait: bool,
}

/// Opens the streams that carry publications and publishes.
#[derive(Debug, Clone)]
pub struct LaneClient(Grpc<Channel>);

impl LaneClient {
    /// Over this channel.
    #[must_use]
    pub fn new(channel: Channel) -> LaneClient {
        LaneClient(
            Grpc::new(channel)
                .max_decoding_message_size(MESSAGE_BYTES_MAX)
                .max_encoding_message_size(MESSAGE_BYTES_MAX),
        )
    }

    /// Opens a stream of `Deliver`.
    ///
    /// # Errors
    /// What became of the connection, or what the gateway says instead.
    pub async fn deliver(
        &mut self,
        calls: Outgoing<SharedCall>,
    ) -> Result<Response<Streaming<DeliverAnswer>>, Status> {
        self.open::<DeliverEncoder, _>("/ringcast.v1.Gateway/Deliver", calls)
            .await
    }

    /// Opens a stream of `Publish`.
    ///
    /// # Errors
    /// What became of the connection, or what the topic server says instead.
    pub async fn publish(
        &mut self,
        calls: Outgoing<PublishCall>,
    ) -> Result<Response<Streaming<PublishAnswer>>, Status> {
        self.open::<PublishEncoder, _>("/ringcast.v1.TopicServer/Publish", calls)
            .await
    }

    async fn open<E, A>(
        &mut self,
        path: &'static str,
        calls: Outgoing<E::Item>,
    ) -> Result<Response<Streaming<A>>, Status>
    where
        E: Encoder<Item: Send + Sync + 'static, Error = Status> + Default + Send + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        let ready = self.0.ready().await;
        ready.map_err(|error| Status::unavailable(format!("no connection: {error}")))?;
        let (path, codec) = (PathAndQuery::from_static(path), LaneCodec::<E, A>(PhantomData));
        self.0.streaming(Request::new(calls), path, codec).await
    }
}

/// The codec of one stream: calls by an encoder that knows what the stream has spelled out, answers as prost has them.
struct LaneCodec<E, A>(PhantomData<fn() -> (E, A)>);

impl<E, A> Codec for LaneCodec<E, A>
where
    E: Encoder<Item: Send + 'static, Error = Status> + Default + Send + 'static,
    A: prost::Message + Default + Send + 'static,
{
    type Encode = E::Item;
    type Decode = A;
    type Encoder = E;
    type Decoder = <ProstCodec<A, A> as Codec>::Decoder;

    fn encoder(&mut self) -> E {
        E::default()
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<A, A>::default().decoder()
    }
}

#[derive(Debug, Default)]
struct PublishEncoder(Numbers);

impl Encoder for PublishEncoder {
    type Item = PublishCall;
    type Error = Status;

    fn encode(&mut self, mut call: PublishCall, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        self.0.shorten(&mut call);
        let encoded = call.encode(buffer);
        encoded.map_err(|error| Status::internal(error.to_string()))
    }
}

#[derive(Debug, Default)]
struct DeliverEncoder(Numbers);

impl Encoder for DeliverEncoder {
    type Item = SharedCall;
    type Error = Status;

    fn encode(&mut self, call: SharedCall, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        self.put(&call, buffer);
        Ok(())
    }
}

impl DeliverEncoder {
    fn put(&mut self, call: &SharedCall, buffer: &mut impl BufMut) {
        encoding::message::encode(1, &call.header, buffer);
        for entry in call.entries.iter() {
            let (id, known) = self.0.of(&entry.topic);
            put_entry(entry, id, known, buffer);
        }
        put_number(3, call.may_wait.into(), buffer);
    }
}

/// As prost would, but for the topic.
fn put_entry(entry: &DeliverEntry, id: u32, known: bool, buffer: &mut impl BufMut) {
    let DeliverEntry {
        slot,
        owner_epoch,
        topic,
        epoch,
        prev_offset,
        gap,
        publications,
        unsequenced,
        bind_seq,
        topic_id,
    } = entry;
    debug_assert_eq!(*topic_id, 0, "numbers are the stream's");
    let id_len = match id {
        0 => 0,
        id => encoding::uint32::encoded_len(10, &id),
    };
    let unsaid_len = match known {
        true => encoding::bytes::encoded_len(3, topic),
        false => 0,
    };
    encoding::encode_key(2, WireType::LengthDelimited, buffer);
    encoding::encode_varint((entry.encoded_len() + id_len - unsaid_len) as u64, buffer);
    put_number(1, (*slot).into(), buffer);
    put_number(2, *owner_epoch, buffer);
    if !known && !topic.is_empty() {
        encoding::bytes::encode(3, topic, buffer);
    }
    if !epoch.is_empty() {
        encoding::bytes::encode(4, epoch, buffer);
    }
    put_number(5, *prev_offset, buffer);
    if let Some(gap) = gap {
        encoding::message::encode(6, gap, buffer);
    }
    encoding::message::encode_repeated(7, publications, buffer);
    encoding::message::encode_repeated(8, unsequenced, buffer);
    put_number(9, *bind_seq, buffer);
    put_number(10, id.into(), buffer);
}

/// A `bool`, a `uint32` or a `uint64`, which are the same on the wire.
fn put_number(tag: u32, number: u64, buffer: &mut impl BufMut) {
    if number != 0 {
        encoding::uint64::encode(tag, &number, buffer);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "in a test a panic is the answer")]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::topic_ids::TopicIds;
    use crate::v1::{DeliverCall, Gap, Publication, Target, UnsequencedPublication};

    fn entry(topic: &str) -> DeliverEntry {
        let publication = |offset| Publication {
            offset,
            event: "m".into(),
            payload: Bytes::from(vec![b'x'; 200]),
            session: 7,
            number: 300,
            target: Target::All.into(),
            binary: false,
        };
        DeliverEntry {
            slot: 900,
            owner_epoch: 5,
            topic: Bytes::copy_from_slice(topic.as_bytes()),
            epoch: "e1".into(),
            prev_offset: 1 << 40,
            gap: Some(Gap {
                from: 1,
                to: 2,
                reason: 1,
            }),
            publications: vec![publication(3), publication(4)],
            unsequenced: vec![UnsequencedPublication {
                publication: Some(publication(0)),
                to: vec![1, 2],
            }],
            bind_seq: 77,
            topic_id: 0,
        }
    }

    #[test]
    fn what_is_delivered_comes_out_as_it_was_and_a_known_topic_takes_no_room() {
        let (mut encoder, mut ids) = (DeliverEncoder::default(), TopicIds::default());
        let entries = Arc::new(vec![
            entry(&"t".repeat(200)),
            entry("other"),
            DeliverEntry::default(),
        ]);
        let mut send = || {
            let header = CallHeader {
                to_incarnation: 5,
                ..CallHeader::default()
            };
            let call = SharedCall {
                header,
                entries: Arc::clone(&entries),
                may_wait: true,
            };
            let mut bytes = Vec::new();
            encoder.put(&call, &mut bytes);
            let mut call = DeliverCall::decode(&bytes[..]).unwrap();
            ids.resolve(&mut call).unwrap();
            assert_eq!(call.header.unwrap().to_incarnation, 5);
            assert_eq!(call.entries, *entries);
            assert!(call.may_wait);
            bytes.len()
        };
        // Each topic with its key and its length.
        assert_eq!(send() - send(), (200 + 3) + (5 + 2));
    }
}
