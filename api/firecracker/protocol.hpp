// SPDX-License-Identifier: Apache-2.0
// What Firecracker's HTTP server says whatever the operation: its version, refusals of requests that name no
// operation or come at the wrong time, answers to what is no HTTP, and its log lines.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "api/http.hpp"
#include "vmm/base/error.hpp"

namespace inox::api::firecracker {

/// The version of Firecracker's API that this one follows. Some clients ask which requests they may send.
inline constexpr const char* version = "1.17.0";
inline constexpr const char* server_name = "Firecracker API";

/// `path`: without its first slash.
Error no_operation(Method method, std::string_view path);
/// A body where there must be none, or none where there must be one.
Error wrong_body(Method method);
Error empty_id();
Error wrong_id(std::string hint);
/// The operation is for the time before the start, or for the time after it.
Error wrong_phase(bool started);

// What is no HTTP request, or none that is taken. `what` of the request must be safe to print.
/// Body of the answer.
std::string protocol_error(std::string_view why);
/// The same; the connection ends.
std::string last_protocol_error(std::string_view why);
std::string invalid_request(std::string_view why);
std::string invalid_method(std::string_view what);
std::string invalid_version();
std::string invalid_uri(std::string_view what);
std::string invalid_coding(std::string_view what);
/// Bytes.
std::string too_large(std::uint64_t size, std::uint64_t limit);

// Lines that log readers look for.
enum class BodyIs : bool { secret, open };
void log_request(const Request& request, BodyIs body);
/// `fault`: of a refusal.
void log_answer(unsigned status, std::string_view fault);
void log_duration(std::chrono::microseconds took);
void log_listening(std::string_view socket);

} // namespace inox::api::firecracker
