// SPDX-License-Identifier: Apache-2.0
// The configuration file's keys, as data. A new part adds a section, or fields to one.
#pragma once

#include <span>
#include <string_view>

#include "vmm/config/config_file.hpp"
#include "vmm/config/config_json.hpp"

namespace inox {

enum class Need : std::uint8_t { optional, required, required_by_firecracker };
enum class Null : bool { refused, means_absent };

/// One key of a section. `read` stores the value, or reports why not.
struct Field {
    std::string_view name;
    Need need;
    Null null;
    void (*read)(const JsonValue& value, ConfigFile& file);
    std::string_view option_key{};              ///< shorter name in the command line's key=value form
    std::span<const std::string_view> unless{}; ///< keys that take its place where it is needed
};

/// A top-level object, or an array of them; or, with `missing_part`, one that this version cannot serve.
struct Section {
    std::string_view name;
    Need need{Need::optional};
    std::span<const Field> fields{};
    std::string_view missing_part{};
    std::string_view hint{};
    bool list{false};                  ///< an array
    void (*begin)(ConfigFile& file){}; ///< makes what the fields of one object then fill
    bool ignores_unknown{false};       ///< in Firecracker's dialect, as Firecracker does here
};
std::span<const Section> config_sections();

/// Reads one object as a section, or an element of a list section, over what `seed` has; by Firecracker's rules.
/// `required`: whose required keys must be there; nullopt: none must. Pointers in `problems` are relative to the
/// object. Without check().
struct ParsedSection {
    ConfigFile file{};
    std::vector<Error> problems{};
    std::vector<std::string> keys{}; ///< those the object has
};
ParsedSection parse_section(std::string_view section, const nlohmann::json& value, ConfigFile seed,
                            std::optional<Dialect> required);

/// The device whose section is being read.
template <class Options> Options& being_read(ConfigFile& file) { return std::get<Options>(file.config.devices.back()); }
/// Makes it; in place of another where a machine has one.
template <class Options> void begin_device(ConfigFile& file) {
    if constexpr (Kind<Options>::single)
        std::erase_if(file.config.devices, [](const auto& one) { return std::holds_alternative<Options>(one); });
    file.config.devices.emplace_back(Options{});
}

// The fields of services around the guest, in config_services.cpp.
std::span<const Field> logger_fields();
std::span<const Field> metrics_fields();
std::span<const Field> serial_fields();
std::span<const Field> mmds_fields();
std::span<const Field> cpu_fields();
/// What may be opened later, in config_allow.cpp.
void read_allow(const JsonValue& value, ConfigFile& file);
// The guest's files and its command, in config_root.cpp.
std::span<const Field> root_fields();
std::span<const Field> command_fields();
// What `inox test` does, in config_test_section.cpp.
std::span<const Field> test_fields();

/// One bucket of a rate limiter: {"size", "one_time_burst", "refill_time"}.
std::optional<devices::BucketLimits> read_bucket(const JsonValue& bucket);
void read_limits(const JsonValue& value, devices::RateLimits& out);
/// `least` for what is none.
std::uint64_t read_limit(const JsonValue& value, std::uint64_t least, std::uint64_t most);
/// Firecracker's alphabet for ids, which end up in paths of the API.
std::string read_id(const JsonValue& value);

void read_text(const JsonValue& value, std::string& out);
/// A list of texts without a NUL, which ends an argument and a variable wherever they are handed on.
void read_texts(const JsonValue& value, std::vector<std::string>& out);
/// Reports text with a control character, for what guests and programs take for a name.
void read_plain_text(const JsonValue& value, std::string& out);
/// Reports empty text, which is none of `what`.
void read_name(const JsonValue& value, const char* what, std::string& out);
/// Reports an empty path; a relative one starts at the value's folder.
void read_path(const JsonValue& value, std::string& out);
/// Also one that is too long for a unix socket.
void read_socket_path(const JsonValue& value, std::string& out);
/// The same for the vsock device, whose socket needs room for ports behind it.
void read_vsock_path(const JsonValue& value, std::string& out);
/// 1 to `most`; `otherwise` for what is none.
unsigned read_count(const JsonValue& value, unsigned most, unsigned otherwise);

} // namespace inox
