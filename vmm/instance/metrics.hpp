// SPDX-License-Identifier: Apache-2.0
// Numbers of a running guest: collected as samples, written as lines of JSON or as Prometheus text.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/base/os.hpp"
#include "vmm/config/config_file.hpp"
#include "vmm/machine/machine.hpp"

namespace inox {

struct Sample {
    enum class Type : std::uint8_t { counter, gauge };
    std::string group{}; ///< "block"
    std::string id{};    ///< of the device; empty for what there is one of
    std::string name{};  ///< "read_bytes"
    std::uint64_t value{};
    Type type{Type::counter};
};
using Samples = std::vector<Sample>;

/// Of the machine's vCPUs and devices, grouped. On the loop's thread.
void collect(const Machine& machine, Samples& samples);

/// One line of them as JSON.
using MetricsLine = std::string (*)(const Samples& samples, const std::string& id, const MetricsConfig& config);
/// Prometheus' text format 0.0.4: inox_block_read_bytes_total{id="root"} 1.
std::string prometheus_text(const Samples& samples);

/// A file or pipe that gets a line now and then. Never waits: a line that does not fit is dropped and counted; the
/// first failure is a warning that names the file.
class MetricsFile {
public:
    static Result<MetricsFile> open(const std::string& path);
    void write(std::string line);
    [[nodiscard]] std::uint64_t dropped() const { return dropped_; }

private:
    MetricsFile(UniqueFd file, std::string path) : file_{std::move(file)}, path_{std::move(path)} {}
    bool write_pending();

    UniqueFd file_;
    std::string path_;
    bool told_{false};      ///< that it cannot be written
    std::string pending_{}; ///< the rest of a line of which a pipe took a part
    std::uint64_t dropped_{0};
};

} // namespace inox
