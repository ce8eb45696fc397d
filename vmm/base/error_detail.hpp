// SPDX-License-Identifier: Apache-2.0
// What code reads of an error beyond its code: what it may look for, and what another wording of the error needs. An
// error that nobody has to tell from others of its code has no detail, only its text.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace inox {

/// With static storage duration each.
using Names = std::vector<std::string_view>;

// A value of the configuration; `Error::where` names it.
enum class JsonType : std::uint8_t { boolean, number, text, array, object };
struct WrongType {
    JsonType expected;
};
struct NotOneOf {
    std::string given; ///< printable
    Names names;
};
/// A whole number outside these, both inclusive; also one that is not written as digits only.
struct OutOfRange {
    std::string given; ///< printable
    std::uint64_t first;
    std::uint64_t last;
};
struct UnknownKey {
    Names known;
};
struct MissingKey {
    std::string_view key; ///< with static storage duration
};
struct DuplicateKey {};
/// No address of a PCI device of the host.
struct NoHostAddress {
    std::string given; ///< printable
};

// The rules of a whole configuration.
struct SecondRootDisk {};
struct MacTaken {
    std::string mac;
};
struct HostDeviceTaken {}; ///< a device of the host is assigned twice
struct NoSuchInterface {}; ///< of those that the metadata service shall answer on
struct NoRoom {            ///< for so many devices
    bool pci;              ///< of the machine: it has PCI
};

// A guest.
struct NoKernel {};
struct PciOff {};         ///< so devices cannot come or go
struct NoDevice {};       ///< none of this name
struct IdTaken {};        ///< by another device of the kind
struct MetricsStarted {}; ///< they go somewhere already

using ErrorDetail = std::variant<std::monostate, WrongType, NotOneOf, OutOfRange, UnknownKey, MissingKey, DuplicateKey,
                                 NoHostAddress, SecondRootDisk, MacTaken, HostDeviceTaken, NoSuchInterface, NoRoom,
                                 NoKernel, PciOff, NoDevice, IdTaken, MetricsStarted>;

} // namespace inox
