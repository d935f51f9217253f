//! Which events belong to which preset: a table of reasons, each with the component that emits it.
//!
//! The reasons are those of the emitting components' own sources (kubelet `pkg/kubelet/events`, the controllers of
//! kube-controller-manager, kube-scheduler, cluster-autoscaler, Karpenter, KEDA, node-problem-detector, and
//! OpenShift's cluster-version and machine-config operators).

use schemars::JsonSchema;
use serde::Deserialize;

/// Group of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// Workloads and the cluster scale up or down.
    Scaling,
    /// Nodes run out of memory, disk or processes, or leave.
    NodePressure,
    /// The cluster or its nodes are upgraded.
    Upgrade,
    /// Containers and jobs fail.
    Crash,
    /// Pods are scheduled, or cannot be.
    Scheduling,
    /// Images are pulled, or cannot be.
    Image,
    /// Volumes are created, attached and mounted, or cannot be.
    Storage,
}

impl Preset {
    /// All of them, in the order of the documentation.
    #[cfg(test)]
    const ALL: [Preset; 7] = [
        Preset::Scaling,
        Preset::NodePressure,
        Preset::Upgrade,
        Preset::Crash,
        Preset::Scheduling,
        Preset::Image,
        Preset::Storage,
    ];

    /// As it is written in YAML and in tags.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Preset::Scaling => "scaling",
            Preset::NodePressure => "node_pressure",
            Preset::Upgrade => "upgrade",
            Preset::Crash => "crash",
            Preset::Scheduling => "scheduling",
            Preset::Image => "image",
            Preset::Storage => "storage",
        }
    }
}

/// One line of the table.
#[derive(Debug)]
pub(crate) struct Entry {
    pub preset: Preset,
    pub reason: &'static str,
    /// Kind of the object the event is about; empty: any.
    pub kind: &'static str,
    /// `Normal` or `Warning`; empty: either.
    pub event_type: &'static str,
    /// The component that emits it, for the documentation.
    #[cfg_attr(not(test), allow(dead_code, reason = "the documentation is checked against it"))]
    pub by: &'static str,
}

impl Entry {
    /// Whether an event with this entry's reason belongs to it.
    pub fn takes(&self, kind: &str, event_type: &str) -> bool {
        (self.kind.is_empty() || self.kind == kind) && (self.event_type.is_empty() || self.event_type == event_type)
    }
}

macro_rules! table {
    ($($preset:ident { $($reason:literal $kind:literal $event_type:literal $by:literal)* })*) => {
        &[$($(Entry {
            preset: Preset::$preset,
            reason: $reason,
            kind: $kind,
            event_type: $event_type,
            by: $by,
        },)*)*]
    };
}

/// Every reason of every preset.
#[rustfmt::skip]
pub(crate) const TABLE: &[Entry] = table! {
    Scaling {
        "ScalingReplicaSet" "Deployment" "Normal" "deployment-controller"
        "SuccessfulRescale" "HorizontalPodAutoscaler" "Normal" "horizontal-pod-autoscaler"
        "FailedRescale" "HorizontalPodAutoscaler" "Warning" "horizontal-pod-autoscaler"
        "FailedGetScale" "HorizontalPodAutoscaler" "Warning" "horizontal-pod-autoscaler"
        "FailedComputeMetricsReplicas" "HorizontalPodAutoscaler" "Warning" "horizontal-pod-autoscaler"
        "KEDAScaleTargetActivated" "ScaledObject" "Normal" "keda-operator"
        "KEDAScaleTargetDeactivated" "ScaledObject" "Normal" "keda-operator"
        "TriggeredScaleUp" "Pod" "Normal" "cluster-autoscaler"
        "NotTriggerScaleUp" "Pod" "" "cluster-autoscaler"
        "ScaledUpGroup" "ConfigMap" "Normal" "cluster-autoscaler"
        "FailedToScaleUpGroup" "ConfigMap" "Warning" "cluster-autoscaler"
        "ScaleUpTimedOut" "ConfigMap" "Warning" "cluster-autoscaler"
        "MaxNodesTotalReached" "ConfigMap" "Warning" "cluster-autoscaler"
        "ScaleDown" "" "Normal" "cluster-autoscaler"
        "ScaleDownEmpty" "ConfigMap" "Normal" "cluster-autoscaler"
        "ScaleDownFailed" "" "Warning" "cluster-autoscaler"
    }
    NodePressure {
        "NodeHasInsufficientMemory" "Node" "" "kubelet"
        "NodeHasSufficientMemory" "Node" "" "kubelet"
        "NodeHasDiskPressure" "Node" "" "kubelet"
        "NodeHasNoDiskPressure" "Node" "" "kubelet"
        "NodeHasInsufficientPID" "Node" "" "kubelet"
        "NodeHasSufficientPID" "Node" "" "kubelet"
        "EvictionThresholdMet" "Node" "Warning" "kubelet"
        "Evicted" "Pod" "Warning" "kubelet"
        "SystemOOM" "Node" "Warning" "kubelet"
        "FreeDiskSpaceFailed" "Node" "Warning" "kubelet"
        "ImageGCFailed" "Node" "Warning" "kubelet"
        "ContainerGCFailed" "Node" "Warning" "kubelet"
        "InvalidDiskCapacity" "Node" "Warning" "kubelet"
        "NodeReady" "Node" "" "kubelet"
        "NodeNotReady" "" "" "kubelet, node-controller"
        "OOMKilling" "Node" "Warning" "node-problem-detector"
    }
    Upgrade {
        "RetrievePayload" "ClusterVersion" "Normal" "cluster-version-operator"
        "RetrievePayloadFailed" "ClusterVersion" "Warning" "cluster-version-operator"
        "LoadPayload" "ClusterVersion" "Normal" "cluster-version-operator"
        "LoadPayloadFailed" "ClusterVersion" "Warning" "cluster-version-operator"
        "VerifyPayloadVersionFailed" "ClusterVersion" "Warning" "cluster-version-operator"
        "PreconditionsPassed" "ClusterVersion" "Normal" "cluster-version-operator"
        "PreconditionWarn" "ClusterVersion" "Warning" "cluster-version-operator"
        "PreconditionBlock" "ClusterVersion" "Warning" "cluster-version-operator"
        "PayloadLoaded" "ClusterVersion" "Normal" "cluster-version-operator"
        "OperatorVersionChanged" "" "Normal" "OpenShift's cluster operators"
        "OSUpdateStarted" "Node" "Normal" "machine-config-daemon"
        "OSUpdateStaged" "Node" "Normal" "machine-config-daemon"
        "NodeDone" "Node" "Normal" "machine-config-daemon"
        "Cordon" "Node" "Normal" "machine-config-daemon"
        "Drain" "Node" "Normal" "machine-config-daemon"
        "Uncordon" "Node" "Normal" "machine-config-daemon"
        "Reboot" "Node" "Normal" "machine-config-daemon"
        "Rebooted" "Node" "Warning" "kubelet"
        "NodeNotSchedulable" "Node" "Normal" "kubelet"
        "NodeSchedulable" "Node" "Normal" "kubelet"
    }
    Crash {
        "BackOff" "Pod" "Warning" "kubelet"
        "Failed" "Pod" "Warning" "kubelet"
        "Unhealthy" "Pod" "Warning" "kubelet"
        "Killing" "Pod" "" "kubelet"
        "FailedKillPod" "Pod" "Warning" "kubelet"
        "ExceededGracePeriod" "Pod" "Warning" "kubelet"
        "FailedPostStartHook" "Pod" "Warning" "kubelet"
        "FailedPreStopHook" "Pod" "Warning" "kubelet"
        "FailedCreatePodSandBox" "Pod" "Warning" "kubelet"
        "FailedSync" "Pod" "Warning" "kubelet"
        "FailedCreate" "" "Warning" "replicaset-controller and the like"
        "BackoffLimitExceeded" "Job" "Warning" "job-controller"
        "DeadlineExceeded" "Job" "Warning" "job-controller"
    }
    Scheduling {
        "FailedScheduling" "Pod" "Warning" "default-scheduler"
        "Scheduled" "Pod" "Normal" "default-scheduler"
        "Preempted" "Pod" "Normal" "default-scheduler"
        "Preempting" "Pod" "Warning" "kubelet"
        "TaintManagerEviction" "Pod" "Normal" "taint-eviction-controller"
        "FailedDaemonPod" "DaemonSet" "Warning" "daemonset-controller"
        "Nominated" "Pod" "Normal" "karpenter"
    }
    Image {
        "Pulling" "Pod" "Normal" "kubelet"
        "Pulled" "Pod" "Normal" "kubelet"
        "Failed" "Pod" "Warning" "kubelet"
        "BackOff" "Pod" "Normal" "kubelet"
        "InspectFailed" "Pod" "Warning" "kubelet"
        "ErrImageNeverPull" "Pod" "Warning" "kubelet"
        "ImageGCFailed" "Node" "Warning" "kubelet"
    }
    Storage {
        "FailedMount" "Pod" "Warning" "kubelet"
        "FailedMapVolume" "Pod" "Warning" "kubelet"
        "AlreadyMountedVolume" "Pod" "Warning" "kubelet"
        "FailedAttachVolume" "Pod" "Warning" "attachdetach-controller"
        "SuccessfulAttachVolume" "Pod" "Normal" "attachdetach-controller"
        "SuccessfulMountVolume" "Pod" "Normal" "kubelet"
        "VolumeResizeFailed" "" "Warning" "kubelet, external-resizer"
        "VolumeResizeSuccessful" "" "Normal" "external-resizer"
        "FileSystemResizeFailed" "" "Warning" "kubelet"
        "FileSystemResizeSuccessful" "" "Normal" "kubelet"
        "Provisioning" "PersistentVolumeClaim" "Normal" "external-provisioner"
        "ProvisioningSucceeded" "PersistentVolumeClaim" "Normal" "external-provisioner"
        "ProvisioningFailed" "PersistentVolumeClaim" "Warning" "external-provisioner"
        "ExternalProvisioning" "PersistentVolumeClaim" "Normal" "persistentvolume-controller"
        "FailedBinding" "PersistentVolumeClaim" "Normal" "persistentvolume-controller"
        "WaitForFirstConsumer" "PersistentVolumeClaim" "Normal" "persistentvolume-controller"
        "ClaimLost" "PersistentVolumeClaim" "Warning" "persistentvolume-controller"
        "VolumeMismatch" "PersistentVolumeClaim" "Warning" "persistentvolume-controller"
        "VolumeFailedDelete" "PersistentVolume" "Warning" "persistentvolume-controller"
    }
};

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fmt::Write;

    use super::*;

    /// The tables as the README shows them.
    fn documentation() -> String {
        let mut text = String::new();
        for preset in Preset::ALL {
            write!(text, "\n`{}`\n\n| reason | object | type | emitted by |\n|---|---|---|---|\n", preset.name())
                .unwrap();
            for Entry { reason, kind, event_type, by, .. } in TABLE.iter().filter(|entry| entry.preset == preset) {
                let or_any = |text: &'static str| if text.is_empty() { "any" } else { text };
                writeln!(text, "| `{reason}` | {} | {} | {by} |", or_any(kind), or_any(event_type)).unwrap();
            }
        }
        text
    }

    /// `WEIR_BLESS=1` writes the tables into the README.
    #[test]
    fn the_readme_shows_every_entry() {
        const HEADING: &str = "## What the presets hold\n";
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
        let readme = std::fs::read_to_string(path).unwrap();
        let (before, shown) = readme.split_once(HEADING).unwrap();
        if std::env::var_os("WEIR_BLESS").is_some() {
            std::fs::write(path, format!("{before}{HEADING}{}", documentation())).unwrap();
            return;
        }
        assert_eq!(shown, documentation(), "WEIR_BLESS=1 cargo test rewrites it");
    }

    #[test]
    fn no_entry_is_there_twice() {
        for (at, entry) in TABLE.iter().enumerate() {
            let is_same = |other: &&Entry| {
                (other.preset, other.reason, other.kind, other.event_type)
                    == (entry.preset, entry.reason, entry.kind, entry.event_type)
            };
            assert_eq!(TABLE.iter().position(|other| is_same(&other)), Some(at), "{entry:?}");
        }
    }
}
