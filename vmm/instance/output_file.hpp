// SPDX-License-Identifier: Apache-2.0
// A file or pipe that keeps what a guest says.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <string>

#include "vmm/base/os.hpp"

namespace inox {

/// Never waits: what a full pipe does not take is for the caller to offer again, or dropped and counted. The first
/// failure is a warning that names the file; what comes later is tried again, as there may be room then. One thread at
/// a time writes; any thread may ask.
class OutputFile {
public:
    /// `role`, such as "serial log", goes into messages. The errors of open_output().
    static Result<OutputFile> open(const std::string& path, const char* role);
    OutputFile(OutputFile&& other) noexcept;
    OutputFile& operator=(OutputFile&&) = delete;
    OutputFile(const OutputFile&) = delete;
    OutputFile& operator=(const OutputFile&) = delete;
    ~OutputFile() = default;

    /// A file is empty from here on; a pipe has nothing to lose.
    void clear() noexcept;
    /// Returns how many bytes from the start were written, or lost to a failure; fewer than all when a pipe is full.
    [[nodiscard]] std::size_t offer(std::span<const std::byte> bytes) noexcept;
    /// The same, dropping what a full pipe does not take.
    void write(std::span<const std::byte> bytes) noexcept { drop(bytes.size() - offer(bytes)); }
    /// The caller dropped this many bytes.
    void drop(std::size_t bytes) noexcept { missed_.fetch_add(bytes, std::memory_order_relaxed); }
    /// Bytes that are not in the file.
    [[nodiscard]] std::uint64_t missed() const noexcept { return missed_.load(std::memory_order_relaxed); }
    /// output_unwritable when something failed; a full pipe is no failure.
    [[nodiscard]] Result<void> result() const;

private:
    OutputFile(UniqueFd file, std::string path, const char* role)
        : file_{std::move(file)}, path_{std::move(path)}, role_{role} {}

    UniqueFd file_;
    std::string path_;
    const char* role_;
    std::atomic<std::uint64_t> missed_{0};
    std::atomic<int> first_errno_{0};
};

} // namespace inox
