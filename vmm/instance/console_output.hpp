// SPDX-License-Identifier: Apache-2.0
// Where serial bytes go: the terminal, a log file, the --expect watcher.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>

#include "vmm/base/log.hpp"
#include "vmm/base/os.hpp"
#include "vmm/base/shared_output.hpp"
#include "vmm/base/timeline.hpp"
#include "vmm/config/config_file.hpp"
#include "vmm/instance/expect.hpp"
#include "vmm/instance/output_file.hpp"
#include "vmm/instance/verdict/findings.hpp"
#include "vmm/machine/run_gate.hpp"

namespace inox {

/// write() runs on vCPU threads. When nobody reads our standard output, the guest is slowed down or output is dropped,
/// as the overflow says. A vCPU can still pause or stop: what could not be written waits for the next write or for
/// flush(). Files and pipes that an option names never slow it (OutputFile).
class ConsoleOutput {
public:
    ConsoleOutput(int fd, RunGate& gate, Timeline& timeline, ConsoleOverflow overflow = ConsoleOverflow::wait)
        : out_{fd}, overflow_{overflow}, gate_{gate}, timeline_{timeline} {}

    /// Before the guest runs. write()'s bytes go here instead.
    void serial_to(OutputFile file) { serial_file_.emplace(std::move(file)); }
    /// Before the guest runs.
    void log_to(OutputFile file) { log_.emplace(std::move(file)); }
    /// The log is of this guest alone. Before the guest runs.
    void clear_log() noexcept {
        if (log_)
            log_->clear();
    }
    /// Both are called on the thread that writes. `on_seen`: first when a line that has not ended matches, if one does,
    /// and then at the end of the matching line. `on_prompt`: the unfinished line may be what is expected; ask
    /// prompt_stays() after Expect::still_for.
    enum class Line : bool { unfinished, ended };
    void expect(std::unique_ptr<Expect> expect, std::function<void(Line)> on_seen, std::function<void()> on_prompt) {
        expect_ = std::move(expect);
        on_seen_ = std::move(on_seen);
        on_prompt_ = std::move(on_prompt);
    }
    /// Bytes that the guest wrote to its consoles so far. Any thread.
    [[nodiscard]] std::uint64_t written() const { return written_.load(std::memory_order_relaxed); }
    /// Before the guest runs; it outlives this.
    void look_for(Findings& findings) { findings_ = &findings; }
    /// Calls `on_seen` when nothing followed the prompt since it was told, or since the last call. True: it is not
    /// known yet; ask again. The loop's thread.
    bool prompt_stays() noexcept;
    /// After the guest's end: its last line, which nothing follows any more, is what is expected.
    [[nodiscard]] bool ends_at_prompt() noexcept;
    void write(std::span<const std::byte> bytes) noexcept;
    /// The same without waiting: returns how many bytes were taken, from the start. Any thread.
    std::size_t offer(std::span<const std::byte> bytes) noexcept;
    /// After the vCPUs stopped: gives a slow reader up to a quarter of a second for each piece of the rest, and two
    /// seconds in all.
    void flush() noexcept;
    /// After flush(): ends a line that the guest left unfinished on a terminal, so that the next text begins on a line
    /// of its own.
    void end_line() noexcept;
    /// Of the log and, unless what has no room is dropped anyway, of standard output: output_unwritable when a part is
    /// missing. A reader that has gone is no failure.
    [[nodiscard]] Result<void> log_result() const;
    /// Bytes that standard output, the serial port's file and the log lack.
    [[nodiscard]] std::uint64_t missed() const {
        return dropped_ + (serial_file_ ? serial_file_->missed() : 0) + (log_ ? log_->missed() : 0);
    }

private:
    // All under mutex_.
    bool write_some() noexcept; // false: no more of the backlog now
    bool wait_for_room() noexcept;
    void lose_reader(int error) noexcept;
    void drop(std::size_t bytes) noexcept;
    void copy(std::span<const std::byte> bytes) noexcept; // to the log and to who looks for something
    void tell_seen(Line line) noexcept;
    void note_shown(const void* data, std::size_t size) noexcept; // it went out

    SharedOutput out_;
    ConsoleOverflow overflow_;
    RunGate& gate_;
    Timeline& timeline_;
    std::optional<OutputFile> serial_file_;
    std::optional<OutputFile> log_;
    std::unique_ptr<Expect> expect_;
    std::function<void(Line)> on_seen_;
    bool rest_awaited_{false}; ///< a line matched that has not ended yet
    Findings* findings_{nullptr};
    std::function<void()> on_prompt_;
    std::mutex mutex_;
    std::string backlog_;                    // guarded by mutex_; at most one exit's worth per vCPU
    std::optional<std::uint64_t> prompt_at_; ///< on_prompt_ was called: the bytes that expect_ had been fed
    bool reader_gone_{false};
    std::atomic<int> out_errno_{0}; ///< why standard output lacks something
    bool in_line_{false};           ///< the last byte that went out was no newline
    std::atomic<std::uint64_t> dropped_{0};
    std::atomic<std::uint64_t> written_{0};
    log::Throttle told_{1};
};

} // namespace inox
