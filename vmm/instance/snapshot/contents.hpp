// SPDX-License-Identifier: Apache-2.0
// The two files of a snapshot, and what their state says beside the machine itself.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "vmm/config/config_file.hpp"
#include "vmm/snapshot/memory_file.hpp"
#include "vmm/snapshot/parts.hpp"

namespace inox {

struct SnapshotFiles {
    std::string state{};
    std::string memory{}; ///< empty: another process brings it
    std::string folder{}; ///< to be made, if it is not there; empty: none

    /// DIR/state and DIR/memory.
    static SnapshotFiles in(const std::string& folder);
};

/// What `inox snapshot info` shows first.
struct SnapshotOrigin {
    std::string version{};     ///< of inox
    std::uint64_t saved_at{0}; ///< seconds since 1970

    void state(State& state);
};

void memory_state(State& state, snapshot::MemoryContents& contents, snapshot::MemoryId& id);

/// A snapshot that was read, with its memory open.
struct SavedMachine {
    std::shared_ptr<const snapshot::Parts> parts;
    SnapshotOrigin origin{};
    Config config{};
    std::optional<MmdsConfig> mmds{};
    snapshot::MemoryContents memory{};
    snapshot::MemoryId id{};
    UniqueFd image{};
};

/// A Diff is refused where a whole one is needed (snapshot_mismatch).
enum class Whole : bool { unneeded, needed };
/// Opens and checks both, as far as that reads little. snapshot_missing, snapshot_invalid.
Result<SavedMachine> open_snapshot(const SnapshotFiles& files, Whole whole = Whole::needed);
/// Reads all of the memory, too.
Result<void> verify_snapshot(const SnapshotFiles& files);
/// The base becomes what the Diff, which is based on it, was saved of. Its files are written anew and renamed, so
/// guests that go on from it stay as they are; one that is killed at any moment leaves the base, or what it becomes.
/// snapshot_mismatch, output_unwritable, and the errors of verify_snapshot().
Result<void> merge_snapshots(const SnapshotFiles& base, const SnapshotFiles& diff);

/// Paths of the host in a configuration that start here, whoever reads it where.
void make_paths_absolute(Config& config, const std::string& folder);

/// Puts names of the host that the operator gave over those that were saved: for a device of the same kind and id the
/// disk's file, the interface's tap or other way, the vsock's and the console's path. bad_option for a device that the
/// snapshot has not.
Result<void> use_names(Config& saved, const Config& given);
/// A snapshot names files, taps and sockets of the host, and nobody vouches for it: each must be named again in
/// `given`, or lie beneath `allow`. not_allowed, with what to write.
Result<void> check_names(const Config& saved, const Config& given, const std::vector<AllowedPath>& allow);

/// The same of what somebody names who may name nothing else than what lies beneath `allow`, or is named in `known` or
/// `passed` (paths of descriptors). not_allowed.
Result<void> check_beneath(const Config& named, const Config& known, const std::vector<AllowedPath>& allow,
                           const std::vector<std::string>& passed);
/// Of one path; `writes` where it is not only read.
[[nodiscard]] bool lies_beneath(const std::string& path, const std::vector<AllowedPath>& allow, bool writes);

} // namespace inox
