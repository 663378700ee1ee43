//! `ringcast topic members TOPIC`: page by page, however many there are.

use anyhow::{Result, bail};
use ringcast_proto::Topic;
use ringcast_proto::v1::ListMembersRequest;
use serde::Serialize;

use crate::cluster::{Cluster, failed, request, topic_server};
use crate::output::{Output, table};

/// A page is well under the largest message.
const PAGE_LEN: u32 = 5_000;

#[derive(Serialize)]
struct Members {
    topic: String,
    members: Vec<Member>,
}

#[derive(Serialize)]
struct Member {
    id: String,
    gateway: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    subject: String,
}

/// Prints who is joined to `topic`.
pub(crate) async fn members(cluster: &Cluster, topic: &Topic, output: Output) -> Result<()> {
    let owned = cluster.owner(topic)?;
    let mut client = topic_server(&owned.address)?;
    let mut found = Members {
        topic: topic.to_string(),
        members: Vec::new(),
    };
    let mut after = 0;
    loop {
        let ask = ListMembersRequest {
            topic: topic.to_string(),
            after,
            limit: PAGE_LEN,
        };
        let reply = client
            .list_members(request(ask))
            .await
            .map_err(|status| failed(&owned.owner, &owned.address, &status))?;
        let reply = reply.into_inner();
        if reply.not_owner {
            bail!("slot {} is changing its owner: try again", owned.slot);
        }
        let last = reply.members.iter().map(|member| member.session).max();
        found
            .members
            .extend(reply.members.into_iter().map(|member| Member {
                id: member.session.to_string(),
                gateway: member.gateway,
                subject: member.subject,
            }));
        match last {
            Some(last) if reply.truncated && last > after => after = last,
            _ => break,
        }
    }
    output.print(&found, |found| match found.members.is_empty() {
        true => format!("nobody is joined to {}", found.topic),
        false => {
            let row =
                |member: &Member| vec![member.id.clone(), member.gateway.clone(), member.subject.clone()];
            table(&["id", "gateway", "subject"], &[], found.members.iter().map(row))
        }
    })
}
