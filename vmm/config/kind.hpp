// SPDX-License-Identifier: Apache-2.0
// What the configuration knows of a kind of device.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/error.hpp"

namespace inox {

struct Config;
struct CommandOption;
struct Section;
class State;

/// A path of the host that a device names, for the rules among all paths of a configuration.
struct UsedPath {
    enum class Use : std::uint8_t {
        image,  ///< read, and perhaps written in place
        output, ///< written to; what is there stays in front
        socket, ///< made, and removed at the end
    };
    std::string_view path;
    Use use;
};

/// What holds for most kinds, which are virtio devices that come and go.
struct UsualKind {
    /// JSON pointer, within a device, of what it takes from the host. A kind with several ways has a key_of(options).
    static constexpr std::string_view key{};
    static constexpr std::string_view id_key{};        ///< of the section, for its id; empty: the section has none
    static constexpr bool single{false};               ///< a machine has at most one; else the section is an array
    static constexpr bool pci_only{false};             ///< not for a machine without PCI
    static constexpr bool plugged{true};               ///< can be added to a machine that runs
    static constexpr std::string_view metrics_group{}; ///< of its metrics; empty: its name
    /// Unique within the kind.
    static auto& id(auto& options) { return options.id; }
    /// Adds what breaks a rule that needs no host.
    static void check(const Config& /*config*/, std::vector<Error>& /*problems*/) {}
    static std::vector<UsedPath> paths(const auto& /*options*/) { return {}; }
    /// The guest finds this one before others of the kind.
    static bool comes_first(const auto& /*options*/) { return false; }
};

/// Of devices whose options are an `Options`: one specialisation for each kind, in kinds/. It is a UsualKind that adds
///
///   name        how the command line and the API call the kind: "disk"
///   section     its key in the configuration file: "drives"
///   sections()  the keys of this section, and other sections that make such a device
///   option()    of the command line
///   state()     each key of a device, for snapshots: see vmm/base/state.hpp
template <class Options> struct Kind;

} // namespace inox
