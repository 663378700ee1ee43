//! `ringcast ring history`.

use anyhow::Result;
use ringcast_proto::record::{HistoryCause, PlanId};
use serde::Serialize;

use crate::cluster::Cluster;
use crate::output::{Output, count, table};

#[derive(Debug, Serialize)]
struct Versions {
    history: Vec<Version>,
}

#[derive(Debug, Serialize)]
struct Version {
    version: u64,
    plan: Option<PlanId>,
    cause: HistoryCause,
    who: String,
    at_unix_ms: u64,
    /// What was asked for, while the plan is kept.
    wish: Option<Vec<String>>,
    moved: Option<u32>,
    skipped: Option<u32>,
    running: bool,
}

/// Prints every version of the ring that is kept, the newest last.
pub(crate) fn history(cluster: &Cluster, output: Output) -> Result<()> {
    let snapshot = &cluster.snapshot;
    let running = snapshot.ring().and_then(|ring| ring.plan.as_ref());
    let version = |history: &ringcast_proto::record::History| {
        let plan = history.plan.as_ref();
        Version {
            version: history.version,
            plan: history.plan.clone(),
            cause: history.cause,
            who: history.who.clone(),
            at_unix_ms: history.at_unix_ms,
            wish: plan
                .and_then(|id| snapshot.plan(id))
                .map(|plan| plan.wish.clone()),
            moved: history.finished.map(|finished| finished.moved),
            skipped: history.finished.map(|finished| finished.skipped),
            running: running.is_some() && plan == running,
        }
    };
    let history = snapshot.history().map(version).collect();
    output.print(&Versions { history }, people)
}

fn people(versions: &Versions) -> String {
    if versions.history.is_empty() {
        return "the ring is as it was born: no plan was ever committed".to_owned();
    }
    let rows = versions.history.iter().map(|version| {
        vec![
            version.version.to_string(),
            when(version.at_unix_ms),
            version
                .plan
                .as_ref()
                .map_or_else(|| "-".to_owned(), |plan| plan.0.clone()),
            cause(version.cause).to_owned(),
            version.who.clone(),
            result(version),
            version.wish.as_ref().map_or_else(
                || "-".to_owned(),
                |wish| match wish.is_empty() {
                    true => "rebalance".to_owned(),
                    false => wish.join(" "),
                },
            ),
        ]
    });
    table(
        &["version", "when", "plan", "cause", "who", "result", "wish"],
        &[0],
        rows,
    )
}

fn cause(cause: HistoryCause) -> &'static str {
    match cause {
        HistoryCause::Commit => "commit",
        HistoryCause::Abort => "abort",
    }
}

fn result(version: &Version) -> String {
    let slots = |n: u32| count(n as usize, "slot", "slots");
    let moved = match version.cause {
        HistoryCause::Commit => "moved",
        HistoryCause::Abort => "home",
    };
    match (version.moved, version.skipped) {
        (Some(done), Some(0) | None) => format!("{} {moved}", slots(done)),
        (Some(done), Some(skipped)) => format!("{} {moved}, {skipped} not", slots(done)),
        (None, _) if version.running => "running".to_owned(),
        (None, _) => "-".to_owned(),
    }
}

/// `2026-11-21 07:10:33`, in UTC; `-` for what nobody has dated.
fn when(unix_ms: u64) -> String {
    if unix_ms == 0 {
        return "-".to_owned();
    }
    let seconds = unix_ms / 1000;
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}",
        of_day / 3600,
        of_day / 60 % 60,
        of_day % 60
    )
}

/// The date so many days after 1970-01-01. Years begin in March here, so that a leap day is a year's last.
fn date(days: u64) -> (u64, u64, u64) {
    const DAYS_IN_400_YEARS: u64 = 146_097;
    // 0000-03-01 is 719,468 days before 1970.
    let days = days + 719_468;
    let (era, day_of_era) = (days / DAYS_IN_400_YEARS, days % DAYS_IN_400_YEARS);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn a_moment_is_told_in_utc() {
        for (unix_s, said) in [
            (1, "1970-01-01 00:00:01"),
            (951_782_399, "2000-02-28 23:59:59"),
            (951_782_400, "2000-02-29 00:00:00"),
            (951_868_800, "2000-03-01 00:00:00"),
            (1_798_761_599, "2026-12-31 23:59:59"),
            (4_107_542_400, "2100-03-01 00:00:00"),
        ] {
            assert_eq!(when(unix_s * 1000), said);
        }
        assert_eq!(when(0), "-");
    }

    #[test]
    fn people_see_who_made_which_version_and_what_became_of_it() {
        let version = |version, moved, skipped, running| Version {
            version,
            plan: Some(PlanId(format!("p{}-abc", version - 1))),
            cause: HistoryCause::Commit,
            who: "ann@web-1".to_owned(),
            at_unix_ms: 951_782_400_000,
            wish: Some(vec!["--drain ts-1".to_owned()]),
            moved,
            skipped,
            running,
        };
        let history = vec![
            version(2, Some(342), Some(0), false),
            version(3, Some(1), Some(2), false),
            Version {
                cause: HistoryCause::Abort,
                ..version(4, Some(3), Some(0), false)
            },
            Version {
                wish: None,
                ..version(5, None, None, true)
            },
        ];
        expect![[r#"
            VERSION  WHEN                 PLAN    CAUSE   WHO        RESULT               WISH
                  2  2000-02-29 00:00:00  p1-abc  commit  ann@web-1  342 slots moved      --drain ts-1
                  3  2000-02-29 00:00:00  p2-abc  commit  ann@web-1  1 slot moved, 2 not  --drain ts-1
                  4  2000-02-29 00:00:00  p3-abc  abort   ann@web-1  3 slots home         --drain ts-1
                  5  2000-02-29 00:00:00  p4-abc  commit  ann@web-1  running              -"#]]
        .assert_eq(&people(&Versions { history }));
    }
}
