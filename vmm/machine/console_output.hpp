// SPDX-License-Identifier: Apache-2.0
// Where serial bytes go: the terminal, a log file, the --expect watcher.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>

#include "vmm/base/os.hpp"
#include "vmm/base/timeline.hpp"
#include "vmm/machine/expect.hpp"
#include "vmm/machine/run_gate.hpp"

namespace vmm {

/// write() runs on vCPU threads. A reader of our output that does not read slows the guest, but cannot keep a vCPU
/// from pausing or stopping: what could not be written waits for the next write or for flush().
class ConsoleOutput {
public:
    ConsoleOutput(int fd, RunGate& gate, Timeline& timeline) : fd_{fd}, gate_{gate}, timeline_{timeline} {}

    /// Before the guest runs.
    void log_to(UniqueFd file) { log_ = std::move(file); }
    void expect(std::unique_ptr<Expect> expect, std::function<void()> on_seen) {
        expect_ = std::move(expect);
        on_seen_ = std::move(on_seen);
    }
    void write(std::span<const std::byte> bytes) noexcept;
    /// The same without waiting: returns how many bytes were taken, from the start. Any thread.
    std::size_t offer(std::span<const std::byte> bytes) noexcept;
    /// After the vCPUs stopped: gives a slow reader up to a quarter of a second for the rest.
    void flush() noexcept;

private:
    bool write_some() noexcept; // under mutex_; false when the gate closed or the reader is gone
    void copy(std::span<const std::byte> bytes) noexcept; // under mutex_; to the log and to expect
    void log(std::span<const std::byte> bytes) noexcept;

    int fd_;
    RunGate& gate_;
    Timeline& timeline_;
    UniqueFd log_;
    std::unique_ptr<Expect> expect_;
    std::function<void()> on_seen_;
    std::mutex mutex_;
    std::string backlog_; // guarded by mutex_; at most one exit's worth per vCPU
    bool reader_gone_{false};
    bool log_failed_{false};
};

} // namespace vmm
