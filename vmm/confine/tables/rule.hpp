// SPDX-License-Identifier: Apache-2.0
// A line of a thread's list of system calls, for the compiler of filters and for tests. Not in the program.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/thread_kind.hpp"
#include "vmm/confine/feature.hpp"

namespace inox::confine {

/// What an argument of a call must be. Only the low 32 bits count, unless it says so: the kernel takes no more of an
/// ioctl's request, a flag or a descriptor, and what libraries put above them differs.
struct Condition {
    unsigned argument; ///< from 0
    std::uint64_t mask;
    std::uint64_t value; ///< of the masked argument
    bool differs{false}; ///< must not be `value`; with a full mask only
};
constexpr std::uint64_t low_word = 0xffffffff;
constexpr Condition is(unsigned argument, std::uint64_t value) { return {argument, low_word, value & low_word}; }
constexpr Condition is_not(unsigned argument, std::uint64_t value) { return {argument, ~0ULL, value, true}; }
constexpr Condition without(unsigned argument, std::uint64_t bits) { return {argument, bits & low_word, 0}; }
constexpr Condition with(unsigned argument, std::uint64_t bits) { return {argument, bits & low_word, bits & low_word}; }
constexpr Condition null(unsigned argument) { return {argument, ~0ULL, 0}; }
/// This process, whose number is filled in when the filter is loaded.
constexpr Condition own_process(unsigned argument) { return is(argument, own_process_mark); }

/// Allows a call when all conditions hold. Several rules of one call are alternatives.
struct Rule {
    std::string call;
    std::vector<Condition> conditions{};
    int error{0}; ///< not 0: the call fails with this errno, and nobody is told
};
using Rules = std::vector<Rule>;

/// Calls none of whose arguments matter: names with blanks between them.
Rules calls(std::string_view names);
/// One alternative for each value.
Rules one_of(const char* call, unsigned argument, std::initializer_list<std::uint64_t> values);
inline Rules ioctls(std::initializer_list<std::uint64_t> requests) { return one_of("ioctl", 1, requests); }
Rules operator+(Rules left, const Rules& right);

/// What a thread of this kind may do in a process with these features; nothing for ThreadKind::start.
Rules rules_of(ThreadKind kind, Features features);

} // namespace inox::confine
