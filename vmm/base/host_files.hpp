// SPDX-License-Identifier: Apache-2.0
// Small reads from /proc and /sys that treat a missing file as an empty answer.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace inox::host {

/// The first `limit` bytes without trailing white space; empty when it cannot be read.
std::string read_text(const std::string& path, std::size_t limit = 4096);
/// Decimal, or hexadecimal with or without 0x when `base` is 16; 0 when there is none.
std::uint64_t read_number(const std::string& path, int base = 10);
/// What stands between white space.
std::vector<std::string> words(const std::string& text);
/// Names in a directory, sorted; numbers by value.
std::vector<std::string> list(const std::string& directory);
bool exists(const std::string& path);
/// Opens and closes it for reading and writing.
bool opens(const std::string& path);
/// Last part of where a symbolic link points to; empty when it is none.
std::string link_name(const std::string& path);
/// Name of a group from /etc/group under `root`, or its number.
std::string group_name(const std::string& root, std::uint32_t gid);
/// The value in KiB of a line such as "MemAvailable:  123 kB", in bytes; 0 when absent.
std::uint64_t meminfo(const std::string& root, const std::string& key);

} // namespace inox::host
