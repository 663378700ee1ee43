//! Readers without a connection, for as long as a history remembers, and for longer.

use std::time::Duration;

use anyhow::Result;

use super::super::{Report, end};
use super::{BETWEEN, Scale, channels_of, end_whole, enter, readers, start, title};
use crate::wait::SOON;

/// A reader away while its topics go on by so many publications, which it then gets.
///
/// # Errors
/// Something could not be done; what is found is in the report.
pub async fn away(scale: Scale, publications: u64, within: Duration) -> Result<Report> {
    let (cluster, crew) = start(&scale).await?;
    let (readers, began) = (readers(&scale.crew), crew.now());
    crew.moves_on(BETWEEN, SOON).await?;
    crew.leave(&readers);
    crew.moves_on(publications, within).await?;
    let gone = crew.now() - began;
    crew.come_back(&readers);
    let back = crew.all_at_head("everybody to be back").await?;
    crew.moves_on(BETWEEN, SOON).await?;

    let mut report = Report::new(title(
        &format!("Away for {publications} publications"),
        &scale.crew,
    ));
    report.tell(
        "away for, then had everything after",
        format!("{gone:.1?}, {back:.1?}"),
    );
    let channels = channels_of(&scale.crew, &readers);
    let story = crew.stop().await?;
    let verdict = story.judge();
    report.at_least("joins that recover", verdict.recovered, channels);
    report.at_least(
        "publications replayed",
        verdict.replayed,
        channels * publications as usize,
    );
    enter(&story, &verdict, &mut report);
    super::enter_whole(&verdict, &mut report);
    end(cluster, report)
}

/// A reader away while its topics go on by more than a join may recover: it is told so, and goes on from the head.
///
/// # Errors
/// Something could not be done; what is found is in the report.
pub async fn away_for_too_long(scale: Scale, publications: u64, within: Duration) -> Result<Report> {
    let (cluster, crew) = start(&scale).await?;
    let readers = readers(&scale.crew);
    crew.moves_on(BETWEEN, SOON).await?;
    crew.leave(&readers);
    crew.moves_on(publications, within).await?;
    crew.come_back(&readers);
    crew.all_at_head("everybody to be back").await?;
    crew.moves_on(BETWEEN, SOON).await?;

    let mut report = Report::new(title(
        &format!("Away for {publications} publications"),
        &scale.crew,
    ));
    let channels = channels_of(&scale.crew, &readers);
    let story = crew.stop().await?;
    let verdict = story.judge();
    let (told, other): (Vec<_>, Vec<_>) = verdict
        .missed
        .iter()
        .partition(|missed| missed.reason == "recovered: false");
    let short: Vec<String> = told
        .iter()
        .filter(|missed| missed.publications < publications as usize)
        .map(ToString::to_string)
        .collect();
    report.exactly("joins that did not recover", told.len(), channels);
    report.none("of these, told too little", &short);
    let other: Vec<String> = other.iter().map(ToString::to_string).collect();
    report.none("missed otherwise", &other);
    enter(&story, &verdict, &mut report);
    end(cluster, report)
}

/// Nothing is done at all, for so long: what a run without faults comes to.
///
/// # Errors
/// Something could not be done; what is found is in the report.
pub async fn undisturbed(scale: Scale, publications: u64) -> Result<Report> {
    let (cluster, crew) = start(&scale).await?;
    crew.moves_on(publications, SOON * 3).await?;
    let report = Report::new(title("Nothing at all", &scale.crew));
    end_whole(cluster, crew, report).await
}
