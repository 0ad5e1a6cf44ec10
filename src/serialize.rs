//! `Serialize` for what is reported, with the feature `serde`.
//!
//! The forms are stable: a later version may add fields and variants, and takes none away. Ranges are `{"start", "end"}` in bytes,
//! the end exclusive; an [`Errno`] is its number; words are those of `name()`.
//!
//! | type | form |
//! |---|---|
//! | [`Outcome`] | `{"requested", "observed", "moved", "already_there", "not_moved", "complete", "retry_useful", "refusals": [{"range", "cause"}], "fallback"}` |
//! | [`Residency`] | `{"range", "runs": [{"range", "place", "huge"}], "ambiguities": […], "summary"}` |
//! | [`Summary`] | `{"system", "zero", "device", …}`, bytes in each place, and `"device_at_least"`, `"device_at_most"` |
//! | [`Report`] | `{"kernel", "devices": [{"name", "node", "driver", "verdict", "findings"}], "machine": [finding]}` |
//! | [`Finding`] | `{"id", "title", "status", "observed", "cure", "source"}` |
//! | [`Event`](crate::events::Event) | see [`events`](crate::events) |

use serde::ser::{Serialize, SerializeMap, SerializeStruct, Serializer};

use crate::doctor::{DeviceReport, Finding, Report, Status, Verdict};
use crate::error::Errno;
use crate::outcome::Outcome;
use crate::range::PageRange;
use crate::residency::{Ambiguity, Place, Residency, Run, Summary};

impl Serialize for Errno {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i32(self.raw())
    }
}

impl Serialize for PageRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("PageRange", 2)?;
        fields.serialize_field("start", &self.start())?;
        fields.serialize_field("end", &self.end())?;
        fields.end()
    }
}

impl Serialize for Outcome {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Outcome", 9)?;
        fields.serialize_field("requested", &self.requested())?;
        fields.serialize_field("observed", &self.is_observed())?;
        fields.serialize_field("moved", &self.moved())?;
        fields.serialize_field("already_there", &self.already_there())?;
        fields.serialize_field("not_moved", &self.not_moved())?;
        fields.serialize_field("complete", &self.is_complete())?;
        fields.serialize_field("retry_useful", &self.retry_useful())?;
        fields.serialize_field("refusals", self.refusals())?;
        fields.serialize_field("fallback", &self.fallback())?;
        fields.end()
    }
}

impl Serialize for Place {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl Serialize for Run {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Run", 3)?;
        fields.serialize_field("range", &self.range())?;
        fields.serialize_field("place", &self.place())?;
        fields.serialize_field("huge", &self.is_huge())?;
        fields.end()
    }
}

impl Serialize for Ambiguity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Ambiguity", 4)?;
        fields.serialize_field("vma", &self.vma())?;
        fields.serialize_field("ambiguous", &self.ambiguous_bytes())?;
        fields.serialize_field("device_at_least", self.device_bytes().start())?;
        fields.serialize_field("device_at_most", self.device_bytes().end())?;
        fields.end()
    }
}

impl Serialize for Summary {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut bytes = serializer.serialize_map(Some(Place::ALL.len() + 2))?;
        for place in Place::ALL {
            bytes.serialize_entry(place.name(), &self.bytes(place))?;
        }
        bytes.serialize_entry("device_at_least", self.device_bytes().start())?;
        bytes.serialize_entry("device_at_most", self.device_bytes().end())?;
        bytes.end()
    }
}

impl Serialize for Residency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Residency", 4)?;
        fields.serialize_field("range", &self.range())?;
        fields.serialize_field("runs", self.runs())?;
        fields.serialize_field("ambiguities", self.ambiguities())?;
        fields.serialize_field("summary", &self.summary())?;
        fields.end()
    }
}

impl Serialize for Verdict {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl Serialize for Status {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl Serialize for Finding {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Finding", 6)?;
        fields.serialize_field("id", self.check().id)?;
        fields.serialize_field("title", self.check().title)?;
        fields.serialize_field("status", &self.status())?;
        fields.serialize_field("observed", self.observed())?;
        fields.serialize_field("cure", &self.cure())?;
        fields.serialize_field("source", self.check().source)?;
        fields.end()
    }
}

impl Serialize for DeviceReport {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("DeviceReport", 5)?;
        fields.serialize_field("name", &self.name)?;
        fields.serialize_field("node", &self.node)?;
        fields.serialize_field("driver", &self.driver)?;
        fields.serialize_field("verdict", &self.verdict)?;
        fields.serialize_field("findings", &self.findings)?;
        fields.end()
    }
}

impl Serialize for Report {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Report", 3)?;
        fields.serialize_field("kernel", &self.kernel)?;
        fields.serialize_field("devices", &self.devices)?;
        fields.serialize_field("machine", &self.machine)?;
        fields.end()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{json, to_value};

    use super::*;
    use crate::events::{Counters, Event, What};
    use crate::location::Fallback;
    use crate::outcome::{Cause, Refusal};
    use crate::range::page_size;

    #[test]
    fn an_outcome_tells_everything_it_knows() {
        let range = PageRange::new(16 * page_size(), page_size()).unwrap();
        let refusal = Refusal { range, cause: Cause::PinnedOrBusy };
        let outcome = Outcome::observed(2 << 20, 4096, vec![refusal]);
        let form = json!({
            "requested": (2 << 20) + 4096 + page_size(), "observed": true, "moved": 2 << 20, "already_there": 4096,
            "not_moved": page_size(), "complete": false, "retry_useful": true,
            "refusals": [{
                "range": {"start": 16 * page_size(), "end": 17 * page_size()}, "cause": "pinned_or_busy",
            }],
            "fallback": null,
        });
        assert_eq!(to_value(&outcome).unwrap(), form);
        let other = Outcome::unobserved(1).fell_back(Fallback::OwnVram);
        assert_eq!(to_value(&other).unwrap()["observed"], json!(false));
        assert_eq!(to_value(&other).unwrap()["fallback"], json!("own_vram"));
    }

    #[test]
    fn a_residency_has_runs_and_a_summary() {
        let data = crate::Buffer::<u8>::from_slice(&vec![1u8; 2 << 20]).unwrap();
        let form = to_value(crate::residency::of_range(data.range()).unwrap()).unwrap();
        assert_eq!(form["range"], json!({"start": data.range().start(), "end": data.range().end()}));
        assert_eq!(form["runs"][0]["place"], "system");
        assert_eq!(
            (&form["summary"]["system"], &form["summary"]["device_at_most"]),
            (&json!(2 << 20), &json!(0))
        );
        assert_eq!(to_value(Residency::new()).unwrap()["range"], json!(null));
    }

    #[test]
    fn a_report_has_the_words_of_its_checks() {
        let report = crate::doctor::examine();
        let form = to_value(&report).unwrap();
        let first = &form["machine"][0];
        assert_eq!(first["id"], report.machine[0].check().id);
        assert_eq!(first["status"], report.machine[0].status().name());
        assert_eq!(form["devices"].as_array().unwrap().len(), report.devices.len());
        for field in ["id", "title", "status", "observed", "cure", "source"] {
            assert!(first.get(field).is_some(), "{field}");
        }
    }

    #[test]
    fn events_name_their_kind() {
        let what = What::Counted(Counters { gpu_faults: Some(3), ..Counters::default() });
        let event = Event { at: Duration::new(1, 5), timed_by_driver: false, what };
        let form = json!({
            "at": {"secs": 1, "nanos": 5}, "timed_by_driver": false,
            "what": {"counted": {"of_process": false, "gpu_faults": 3, "to_vram": null, "to_system": null}},
        });
        assert_eq!(to_value(&event).unwrap(), form);
        let error = What::QueuesResumed { postponed: true };
        assert_eq!(to_value(&error).unwrap(), json!({"queues_resumed": {"postponed": true}}));
        assert_eq!(to_value(Errno::ENOSPC).unwrap(), json!(28));
    }
}
