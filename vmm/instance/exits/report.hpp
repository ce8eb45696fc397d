// SPDX-License-Identifier: Apache-2.0
// The table of exits, for people and programs.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include "vmm/base/error.hpp"
#include "vmm/kvm/exit_table.hpp"

namespace inox {

inline constexpr std::size_t most_exit_rows = 100;

/// What is at a place: "serial port"; empty when only a device's driver knows.
std::string_view exit_place_name(const ExitCount& exit);

/// What tables of exits say of one row: "write", "0x3f8" and so on; empty where the reason has none.
std::string_view exit_access_text(const ExitCount& exit);
std::string exit_address_text(const ExitCount& exit);

/// The first most_exit_rows of merged counts, and how many there are in all. Text, or JSON:
/// {"total": N, "more": N, "exits": [{"reason", "access", "address", "place", "count"}]}; "more" counts those of rows
/// that are left out.
std::string exits_text(std::span<const ExitCount> counts);
std::string exits_json(std::span<const ExitCount> counts);
/// Either, by the ending of the name. output_unwritable.
Result<void> write_exits(const std::string& path, std::span<const ExitCount> counts);

} // namespace inox
