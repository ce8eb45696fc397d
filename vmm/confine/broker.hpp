// SPDX-License-Identifier: Apache-2.0
// A small process that opens for this one what confinement keeps this one from opening, as far as it is allowed. It
// also starts and ends the programs that serve this process. It is forked before there are threads and before the
// guest has memory, knows nothing of the guest, and ends when this process does.
#pragma once

#include <chrono>
#include <memory>
#include <mutex>
#include <span>

#include "vmm/base/outside/outside.hpp"
#include "vmm/confine/allow_list.hpp"

namespace inox::confine {

namespace wire {
enum class Op : std::uint32_t;
}

/// Any thread, once it has started. Each request has a socket of its own for its answer, so nobody waits for the
/// request of another thread, unless the broker serves that one. A thread that is outside::Brief waits for 50 ms in
/// 100 ms, and not at all while the broker owes an answer that was waited for too long: a ping behind that request
/// tells when it answers again.
class Broker final : public outside::Door {
public:
    /// Forks. While this process has one thread. host_error.
    static Result<std::unique_ptr<Broker>> start();
    /// The process ends, and is awaited for a moment; not one of narrow().
    ~Broker() override;

    /// Adds to what may be opened; not once the list is sealed. host_error.
    Result<void> allow(std::span<const Allowed> entries);
    Result<void> allow(const std::string& path, Purpose purpose) {
        const Allowed one{path, purpose};
        return allow({&one, 1});
    }
    /// Before the guest runs: from here on, the list stays as it is. Does not wait: what is asked later is behind it.
    Result<void> seal();
    /// Another one, whose list is empty, and takes only what this one's has (allow() then fails with not_allowed). Its
    /// process is a child of this process's, which has to reap it. host_error.
    Result<std::unique_ptr<Broker>> narrow();
    [[nodiscard]] pid_t pid() const { return pid_; }

    enum class State : std::uint8_t {
        answers, ///< as far as anybody has asked
        silent,  ///< somebody has waited for too long, and it has not answered since
        ended,   ///< for ever: a confined process cannot start one that may open files
    };
    [[nodiscard]] State state();
    /// A line, once.
    static void tell_gone();
    /// Readable once it has ended.
    [[nodiscard]] int fd() const { return socket_.get(); }

    UniqueFd open(const std::string& path, int flags, unsigned mode, outside::Wait wait) override;
    UniqueFd open_unnamed() override;
    UniqueFd open_tap(const std::string& name, int flags) override;
    bool bind(int socket, const std::string& path, unsigned mode) override;
    bool connect(int socket, const std::string& path) override;
    UniqueFd connect_later(int socket, const std::string& path) override;
    bool connected(int answer) override;
    bool can_bind(int type, std::string_view address) override;
    bool remove(const std::string& path) override;
    bool make_folder(const std::string& path) override;
    bool rename(const std::string& from, const std::string& to) override;
    bool replace(const std::string& path, std::string_view text) override;
    std::optional<outside::Helper> start_passt(const std::vector<std::string>& words, int served, int errors) override;
    std::optional<outside::Helper> start_share(const std::string& folder, bool read_only) override;
    std::optional<int> status(int helper) override;
    void end(int helper) override;

private:
    struct Reply {
        int error{};
        int number{};
        UniqueFd first{};
        UniqueFd second{};
    };
    using Fds = std::initializer_list<int>;
    using Clock = std::chrono::steady_clock;
    static constexpr int usual_patience_ms = 5000;
    static constexpr int brief_patience_ms = 50; ///< in twice this time
    /// `pid`: -1 where it is somebody else's child.
    Broker(UniqueFd socket, pid_t pid) : socket_{std::move(socket)}, pid_{pid} {}
    [[nodiscard]] UniqueFd request(wire::Op op, int flags, unsigned mode, std::string_view text, Fds fds = {});
    [[nodiscard]] Reply ask(wire::Op op, int flags, unsigned mode, std::string_view text, Fds fds = {},
                            int patience_ms = usual_patience_ms);
    [[nodiscard]] Reply ask_once(wire::Op op, int flags, unsigned mode, std::string_view text, Fds fds,
                                 int patience_ms);
    [[nodiscard]] Reply take(int answer);
    [[nodiscard]] bool is_silent();
    void note_silence();
    [[nodiscard]] int patience_now(int wanted_ms);
    void spend(Clock::time_point from);

    UniqueFd socket_;
    pid_t pid_;
    std::mutex mutex_{}; // guards all below
    UniqueFd ping_{};    ///< the answer that is owed
    Clock::time_point silent_since_{};
    Clock::time_point spent_since_{}; ///< by threads that are Brief
    Clock::duration spent_{};
};

} // namespace inox::confine
