//! What a cluster can be asked: by the command line, by `/metrics`, and, for what neither tells, by gRPC.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ringcast_proto::grpc;
use ringcast_proto::v1::topic_server_client::TopicServerClient;
use ringcast_proto::v1::{EndedMove, ListMovesRequest};
use serde_json::Value;

use super::Cluster;
use crate::metrics::Metrics;
use crate::{cli, http, wait};

impl Cluster {
    /// Runs `ringcast ARGUMENTS... --store STORE -o json` and reads its one JSON value.
    ///
    /// # Errors
    /// It failed.
    pub async fn json(&self, arguments: &[&str]) -> Result<Value> {
        self.json_within(arguments, cli::DEADLINE).await
    }

    /// The same for a command that has this long.
    ///
    /// # Errors
    /// It failed, or did not end.
    pub async fn json_within(&self, arguments: &[&str], deadline: Duration) -> Result<Value> {
        let arguments = [arguments, &["-o", "json"]].concat();
        let output = self.cli_within(&arguments, deadline).await?;
        output
            .json()
            .with_context(|| format!("ringcast {}", arguments.join(" ")))
    }

    /// Runs `ringcast ARGUMENTS... --store STORE`.
    ///
    /// # Errors
    /// It could not be run.
    pub async fn cli(&self, arguments: &[&str]) -> Result<cli::Output> {
        self.cli_within(arguments, cli::DEADLINE).await
    }

    /// The same for a command that has this long.
    ///
    /// # Errors
    /// It could not be run, or did not end.
    pub async fn cli_within(&self, arguments: &[&str], deadline: Duration) -> Result<cli::Output> {
        cli::run_within(&[arguments, &["--store", self.store()]].concat(), deadline).await
    }

    /// What a node's `/metrics` says.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn metrics(&self, name: &str) -> Result<Metrics> {
        let answer = http::get(self.admin(name)?, "/metrics").await?;
        ensure!(
            answer.status == 200,
            "{name}: /metrics answered {}",
            answer.status
        );
        Ok(Metrics::parse(&answer.body))
    }

    /// What all running nodes whose name begins with `prefix` say together.
    ///
    /// # Errors
    /// One does not answer.
    pub async fn metrics_of(&self, prefix: &str) -> Result<Metrics> {
        let mut all = Metrics::default();
        for name in self.running(prefix) {
            all.merge(self.metrics(&name).await?);
        }
        Ok(all)
    }

    /// The moves by which a topic server became an owner, the oldest first; those whose name begins with `prefix`.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn ended_moves(&self, name: &str, prefix: &str) -> Result<Vec<EndedMove>> {
        let address = self.listen(name)?.to_string();
        let channel = grpc::channel(&address).context("address")?;
        let mut client = TopicServerClient::new(channel).max_decoding_message_size(grpc::MESSAGE_BYTES_MAX);
        let request = ListMovesRequest {
            prefix: prefix.to_owned(),
        };
        let reply = tokio::time::timeout(wait::SOON, client.list_moves(request)).await;
        let reply = reply
            .with_context(|| format!("{name} did not list its moves"))?
            .with_context(|| format!("{name} lists its moves"))?;
        Ok(reply.into_inner().moves)
    }

    /// The same of all running topic servers.
    ///
    /// # Errors
    /// One does not answer.
    pub async fn all_ended_moves(&self) -> Result<Vec<EndedMove>> {
        let mut all = Vec::new();
        for name in self.running("ts-") {
            all.extend(self.ended_moves(&name, "").await?);
        }
        Ok(all)
    }

    /// Everything a node has logged.
    ///
    /// # Errors
    /// There is no such node.
    pub fn log(&self, name: &str) -> Result<String> {
        Ok(self.process(name)?.log())
    }
}
