// everlink for C++17: everlink.h with owners, string views and exceptions.
//
// A client, server, message or receipt owns what it stands for: it can be moved, not copied, and gives it back at its end.
// A failed call throws everlink::error; with std::nothrow as its first argument it returns the code instead.
// What a callback throws ends the link, and the client gives up with what() as the reason; a login's fails the
// attempt.
#ifndef EVERLINK_HPP
#define EVERLINK_HPP

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "everlink.h"

namespace everlink {

using code = everlink_code;
using milliseconds = std::chrono::milliseconds;

/// Waits for as long as it takes.
inline constexpr milliseconds forever{-1};

class error : public std::runtime_error {
  public:
    explicit error(int code) : std::runtime_error(everlink_last_error()), code_(code) {}
    everlink::code code() const noexcept { return static_cast<everlink::code>(code_); }

  private:
    int code_;
};

namespace detail {
inline void check(int code) {
    if (code != EVERLINK_CODE_OK) throw error(code);
}

inline code as_code(int code) noexcept { return static_cast<everlink::code>(code); }

/// A text of the library's, given back.
inline std::string taken(char *text) {
    std::unique_ptr<char, void (*)(char *)> owner(text, everlink_string_free);
    return text ? std::string(text) : std::string();
}

template <class Function> void destroy(void *user) { delete static_cast<Function *>(user); }
} // namespace detail

/// A message that is lent: valid until the callback returns.
class message_view {
  public:
    explicit message_view(const everlink_message &message) noexcept : message_(&message) {}
    std::string_view view() const noexcept {
        return {reinterpret_cast<const char *>(message_->data), message_->size};
    }
    operator std::string_view() const noexcept { return view(); }
    bool is_text() const noexcept { return message_->is_text != 0; }
    std::uint32_t link() const noexcept { return message_->link; }
    const everlink_message *raw() const noexcept { return message_; }

  private:
    const everlink_message *message_;
};

/// A message that was received.
class message {
  public:
    message() noexcept : message_{nullptr, 0, 0, 0, nullptr} {}
    message(message &&other) noexcept : message_(std::exchange(other.message_, {nullptr, 0, 0, 0, nullptr})) {}
    message &operator=(message &&other) noexcept {
        std::swap(message_, other.message_);
        return *this;
    }
    ~message() { everlink_message_free(&message_); }

    std::string_view view() const noexcept {
        return {reinterpret_cast<const char *>(message_.data), message_.size};
    }
    operator std::string_view() const noexcept { return view(); }
    bool is_text() const noexcept { return message_.is_text != 0; }
    std::uint32_t link() const noexcept { return message_.link; }
    everlink_message *raw() noexcept { return &message_; }

  private:
    everlink_message message_;
};

/// Follows one message.
class receipt {
  public:
    explicit receipt(everlink_receipt *handle) noexcept : handle_(handle) {}
    receipt(receipt &&other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    receipt &operator=(receipt &&other) noexcept {
        std::swap(handle_, other.handle_);
        return *this;
    }
    ~receipt() { everlink_receipt_free(handle_); }

    void wait(milliseconds time) const { detail::check(everlink_receipt_wait(handle_, time.count())); }
    code wait(std::nothrow_t, milliseconds time) const noexcept {
        return detail::as_code(everlink_receipt_wait(handle_, time.count()));
    }

  private:
    everlink_receipt *handle_;
};

/// Options of one message: `send("x", options().ttl(5s))`.
class options {
  public:
    options &binary() noexcept { return set(&everlink_send_options::is_binary); }
    options &no_wait() noexcept { return set(&everlink_send_options::no_wait); }
    options &this_link_only() noexcept { return set(&everlink_send_options::this_link_only); }
    options &uncompressed() noexcept { return set(&everlink_send_options::uncompressed); }
    options &ttl(milliseconds time) noexcept {
        raw_.ttl_ms = time > milliseconds(0) ? static_cast<std::uint64_t>(time.count()) : 1;
        return *this;
    }
    /// How long it may wait for room in the queue.
    options &timeout(milliseconds time) noexcept {
        if (time <= milliseconds(0)) return no_wait();
        raw_.timeout_ms = static_cast<std::uint64_t>(time.count());
        return *this;
    }
    options &key(std::uint64_t key) noexcept {
        raw_.key = key;
        return set(&everlink_send_options::has_key);
    }
    const everlink_send_options *raw() const noexcept { return &raw_; }

  private:
    options &set(int everlink_send_options::*flag) noexcept {
        raw_.*flag = 1;
        return *this;
    }
    everlink_send_options raw_ = EVERLINK_SEND_INIT;
};

/// What sends and receives: a client, or a session of a server's. It owns neither.
class connection {
  public:
    explicit connection(everlink_connection *handle) noexcept : handle_(handle) {}

    void send(std::string_view text) { detail::check(send(std::nothrow, text)); }
    code send(std::nothrow_t, std::string_view text) noexcept {
        return detail::as_code(everlink_send_text(handle_, text.data(), text.size()));
    }
    void send(std::string_view data, const options &with) { detail::check(send(std::nothrow, data, with)); }
    code send(std::nothrow_t, std::string_view data, const options &with) noexcept {
        return detail::as_code(everlink_send(handle_, data.data(), data.size(), with.raw(), nullptr));
    }
    receipt send_confirmed(std::string_view data, const options &with = {}) {
        everlink_receipt *receipt = nullptr;
        detail::check(everlink_send(handle_, data.data(), data.size(), with.raw(), &receipt));
        return everlink::receipt(receipt);
    }

    /// The next message; it throws when none will come any more.
    message receive() {
        message received;
        detail::check(everlink_receive(handle_, -1, received.raw()));
        return received;
    }
    /// None if the time is over; with `milliseconds(0)` it does not wait at all.
    std::optional<message> receive(milliseconds time) {
        message received;
        code code = receive(std::nothrow, received, time);
        if (code == EVERLINK_CODE_TIMEOUT) return std::nullopt;
        detail::check(code);
        return received;
    }
    code receive(std::nothrow_t, message &to, milliseconds time = forever) noexcept {
        message received;
        int code = everlink_receive(handle_, time.count(), received.raw());
        if (code == EVERLINK_CODE_OK) to = std::move(received);
        return detail::as_code(code);
    }
    /// The oldest event that was not taken, as JSON: for programs without an on_event.
    std::optional<std::string> next_event() {
        char *event = everlink_next_event(handle_);
        if (!event) return std::nullopt;
        return detail::taken(event);
    }
    /// Readable while `receive(0ms)` has something to say.
    int readable_fd() const {
        int descriptor = -1;
        detail::check(everlink_readable_fd(handle_, &descriptor));
        return descriptor;
    }

    message call(const std::string &key, std::string_view question, milliseconds time, const options &with = {}) {
        message answer;
        detail::check(everlink_call(handle_, key.c_str(), question.data(), question.size(), with.raw(),
                                    time.count(), answer.raw()));
        return answer;
    }
    /// Whether somebody waits for it.
    bool answer(const std::string &key, message_view answer) noexcept {
        return everlink_answer(handle_, key.c_str(), answer.raw()) == EVERLINK_CODE_OK;
    }

    everlink_state state() const noexcept { return static_cast<everlink_state>(everlink_state_of(handle_)); }
    bool is_connected() const noexcept { return state() == EVERLINK_STATE_CONNECTED; }
    std::string status() const { return detail::taken(everlink_status(handle_)); }
    std::string stats() const { return detail::taken(everlink_stats(handle_)); }

    void wait_connected(milliseconds time) { detail::check(everlink_wait_connected(handle_, time.count())); }
    void flush(milliseconds time) { detail::check(everlink_flush(handle_, time.count())); }
    std::chrono::microseconds ping(milliseconds time) {
        std::uint64_t microseconds = 0;
        detail::check(everlink_ping(handle_, time.count(), &microseconds));
        return std::chrono::microseconds(microseconds);
    }
    void reconnect() { detail::check(everlink_reconnect(handle_)); }
    void set_heartbeat(milliseconds interval, milliseconds dead_after = milliseconds(0)) {
        detail::check(everlink_set_heartbeat(handle_, static_cast<std::uint64_t>(interval.count()),
                                             static_cast<std::uint64_t>(dead_after.count()), nullptr, nullptr));
    }
    /// A message of the program's as beat; see everlink_login_set_heartbeat().
    void set_heartbeat(milliseconds interval, const std::string &beat, const std::string &expects) {
        detail::check(everlink_set_heartbeat(handle_, static_cast<std::uint64_t>(interval.count()), 0,
                                             beat.c_str(), expects.c_str()));
    }
    bool confirm(std::uint64_t key) noexcept { return everlink_confirm(handle_, key) == EVERLINK_CODE_OK; }
    void end_link(const std::string &reason, const everlink_decision &decision = {}) {
        detail::check(everlink_end_link(handle_, reason.c_str(), &decision));
    }
    /// Of a session.
    void join(const std::string &topic) { detail::check(everlink_session_join(handle_, topic.c_str())); }
    void leave(const std::string &topic) { detail::check(everlink_session_leave(handle_, topic.c_str())); }
    void start_close(std::uint16_t code = 1000, const std::string &reason = "") {
        detail::check(everlink_start_close(handle_, code, reason.c_str()));
    }
    /// Closes and returns what was not delivered.
    std::vector<std::string> close(std::uint16_t code = 1000, const std::string &reason = "") {
        std::vector<std::string> left;
        auto keep = [](void *user, const everlink_message *message, const char *) {
            try {
                static_cast<std::vector<std::string> *>(user)->emplace_back(message_view(*message).view());
            } catch (...) { // no memory
            }
        };
        detail::check(everlink_close(handle_, code, reason.c_str(), keep, &left));
        return left;
    }

    everlink_connection *handle() const noexcept { return handle_; }

  protected:
    everlink_connection *handle_;
};

/// A fresh link before anything that is queued is sent.
class login {
  public:
    explicit login(everlink_login *handle) noexcept : handle_(handle) {}
    void send(std::string_view text) { detail::check(everlink_login_send(handle_, text.data(), text.size(), 0)); }
    void send_binary(std::string_view data) { detail::check(everlink_login_send(handle_, data.data(), data.size(), 1)); }
    message receive(milliseconds time = forever) {
        message received;
        detail::check(everlink_login_receive(handle_, time.count(), nullptr, nullptr, received.raw()));
        return received;
    }
    /// The next one for which this is true; the others are received by the program later.
    message receive_matching(const std::function<bool(message_view)> &is_meant) {
        message received;
        auto filter = [](void *user, const everlink_message *message) -> int {
            try {
                return (*static_cast<const std::function<bool(message_view)> *>(user))(message_view(*message));
            } catch (...) {
                return 0;
            }
        };
        void *user = const_cast<std::function<bool(message_view)> *>(&is_meant);
        detail::check(everlink_login_receive(handle_, -1, filter, user, received.raw()));
        return received;
    }
    void set_heartbeat(milliseconds interval, milliseconds dead_after = milliseconds(0)) {
        detail::check(everlink_login_set_heartbeat(handle_, static_cast<std::uint64_t>(interval.count()),
                                                   static_cast<std::uint64_t>(dead_after.count()), nullptr, nullptr));
    }
    void set_heartbeat(milliseconds interval, const std::string &beat, const std::string &expects) {
        detail::check(everlink_login_set_heartbeat(handle_, static_cast<std::uint64_t>(interval.count()), 0,
                                                   beat.c_str(), expects.c_str()));
    }
    /// The login fails for this reason: for good, so that the client gives up, or until the next attempt.
    void fail(const std::string &reason, bool for_good = false) {
        detail::check(everlink_login_fail(handle_, reason.c_str(), for_good));
    }

  private:
    everlink_login *handle_;
};

/// The request of an attempt.
class request {
  public:
    explicit request(everlink_request *handle) noexcept : handle_(handle) {}
    void set_header(const std::string &name, const std::string &value) {
        detail::check(everlink_request_set_header(handle_, name.c_str(), value.c_str()));
    }
    void set_url(const std::string &url) { detail::check(everlink_request_set_url(handle_, url.c_str())); }
    std::uint32_t attempt() const noexcept { return everlink_request_attempt(handle_); }

  private:
    everlink_request *handle_;
};

/// A request that has come to a server.
class incoming {
  public:
    explicit incoming(const everlink_incoming *handle) noexcept : handle_(handle) {}
    /// With its query.
    std::string path() const { return detail::taken(everlink_incoming_header(handle_, nullptr)); }
    std::optional<std::string> header(const std::string &name) const {
        char *value = everlink_incoming_header(handle_, name.c_str());
        if (!value) return std::nullopt;
        return detail::taken(value);
    }

  private:
    const everlink_incoming *handle_;
};

/// A client: `client("wss://...").set("heartbeat.interval", "5s").connect()`.
class client : public connection {
  public:
    explicit client(const std::string &url) : connection(nullptr) {
        detail::check(everlink_client_new(url.c_str(), &handle_));
    }
    client(client &&other) noexcept : connection(std::exchange(other.handle_, nullptr)) {}
    client &operator=(client &&other) noexcept {
        std::swap(handle_, other.handle_);
        return *this;
    }
    ~client() {
        if (handle_) everlink_free(handle_);
    }

    client &set(const std::string &key, const std::string &value) {
        detail::check(everlink_client_set(handle_, key.c_str(), value.c_str()));
        return *this;
    }
    client &set_json(const std::string &json) {
        detail::check(everlink_client_set_json(handle_, json.c_str()));
        return *this;
    }
    client &on_message(std::function<void(connection &, message_view)> callback) {
        auto call = [](void *user, everlink_connection *handle, const everlink_message *message) {
            guarded(handle, [&](connection &it) { as<decltype(callback)>(user)(it, message_view(*message)); });
        };
        return hook(everlink_client_on_message, +call, std::move(callback));
    }
    client &on_event(std::function<void(connection &, const everlink_event &)> callback) {
        auto call = [](void *user, everlink_connection *handle, const everlink_event *event) {
            guarded(handle, [&](connection &it) { as<decltype(callback)>(user)(it, *event); });
        };
        return hook(everlink_client_on_event, +call, std::move(callback));
    }
    client &on_login(std::function<void(login &)> callback) {
        auto call = [](void *user, everlink_login *handle) -> int {
            try {
                login login(handle);
                as<decltype(callback)>(user)(login);
                return EVERLINK_CODE_OK;
            } catch (const std::exception &thrown) {
                everlink_login_fail(handle, thrown.what(), 0);
            } catch (...) {
            }
            return EVERLINK_CODE_OTHER;
        };
        return hook(everlink_client_on_login, +call, std::move(callback));
    }
    client &on_request(std::function<void(request &)> callback) {
        auto call = [](void *user, everlink_request *handle) -> int {
            try {
                request request(handle);
                as<decltype(callback)>(user)(request);
                return EVERLINK_CODE_OK;
            } catch (...) {
                return EVERLINK_CODE_OTHER;
            }
        };
        return hook(everlink_client_on_request, +call, std::move(callback));
    }
    client &on_decision(std::function<void(const everlink_failure &, everlink_decision &)> callback) {
        auto call = [](void *user, const everlink_failure *failure, everlink_decision *decision) {
            try {
                as<decltype(callback)>(user)(*failure, *decision);
            } catch (...) {
                decision->give_up = 1;
            }
        };
        return hook(everlink_client_on_decision, +call, std::move(callback));
    }
    client &on_dropped(std::function<void(message_view, std::string_view)> callback) {
        auto call = [](void *user, const everlink_message *message, const char *why) {
            try {
                as<decltype(callback)>(user)(message_view(*message), why);
            } catch (...) { // whoever sends has nobody to tell
            }
        };
        return hook(everlink_client_on_dropped, +call, std::move(callback));
    }

    /// Starts, and does not wait for a link.
    client &start() {
        detail::check(everlink_client_start(handle_));
        return *this;
    }
    /// Starts, and the first attempt decides.
    client &connect() {
        detail::check(everlink_client_connect(handle_));
        return *this;
    }

  private:
    template <class Function> static Function &as(void *user) { return *static_cast<Function *>(user); }

    template <class Run> static void guarded(everlink_connection *handle, Run run) noexcept {
        connection it(handle);
        everlink_decision give_up{};
        give_up.give_up = 1;
        try {
            run(it);
        } catch (const std::exception &thrown) {
            everlink_end_link(handle, thrown.what(), &give_up);
        } catch (...) {
            everlink_end_link(handle, "a callback has thrown", &give_up);
        }
    }

    template <class Set, class Call, class Function>
    client &hook(Set set, Call call, Function callback) {
        auto user = std::make_unique<Function>(std::move(callback));
        // from here on the library destroys it, whatever comes of the call
        detail::check(set(handle_, call, user.release(), detail::destroy<Function>));
        return *this;
    }
};

/// A server: each session on a thread of its own.
class server {
  public:
    server() { detail::check(everlink_server_new(&handle_)); }
    server(server &&other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    server &operator=(server &&other) noexcept {
        std::swap(handle_, other.handle_);
        return *this;
    }
    ~server() {
        if (handle_) everlink_server_free(handle_);
    }

    server &set(const std::string &key, const std::string &value) {
        detail::check(everlink_server_set(handle_, key.c_str(), value.c_str()));
        return *this;
    }
    server &set_json(const std::string &json) {
        detail::check(everlink_server_set_json(handle_, json.c_str()));
        return *this;
    }
    /// Answers each request with a status: 101 lets it in. If it throws that is 500.
    server &on_request(std::function<int(incoming)> callback) {
        using function = std::function<int(incoming)>;
        auto call = [](void *user, const everlink_incoming *handle) -> int {
            try {
                return (*static_cast<function *>(user))(incoming(handle));
            } catch (...) {
                return 500;
            }
        };
        auto user = std::make_unique<function>(std::move(callback));
        detail::check(everlink_server_on_request(handle_, +call, user.release(), detail::destroy<function>));
        return *this;
    }
    /// What the handler throws closes the session with 1011.
    server &bind(const std::string &address, std::function<void(connection &)> on_session) {
        auto user = std::make_unique<session_function>(std::move(on_session));
        detail::check(everlink_server_bind(handle_, address.c_str(), run_session, user.release(),
                                           detail::destroy<session_function>));
        return *this;
    }
    /// The same on a socket that listens already, which stays the program's.
    server &serve(int descriptor, std::function<void(connection &)> on_session) {
        auto user = std::make_unique<session_function>(std::move(on_session));
        detail::check(everlink_server_serve(handle_, descriptor, run_session, user.release(),
                                            detail::destroy<session_function>));
        return *this;
    }
    std::uint16_t port() const noexcept { return everlink_server_port(handle_); }
    std::size_t broadcast(std::string_view text) {
        std::size_t count = 0;
        detail::check(everlink_server_broadcast(handle_, text.data(), text.size(), 0, &count));
        return count;
    }
    std::size_t publish(const std::string &topic, std::string_view text) {
        std::size_t count = 0;
        detail::check(everlink_server_publish(handle_, topic.c_str(), text.data(), text.size(), 0, &count));
        return count;
    }
    std::size_t members(const std::string &topic) const { return everlink_server_members(handle_, topic.c_str()); }
    std::string stats() const { return detail::taken(everlink_server_stats(handle_)); }
    /// Stops accepting, and has every handler finish what it is at; whether all have.
    bool drain(milliseconds time) { return everlink_server_drain(handle_, time.count()) == EVERLINK_CODE_OK; }
    bool shutdown(milliseconds time) { return everlink_server_shutdown(handle_, time.count()) == EVERLINK_CODE_OK; }

  private:
    using session_function = std::function<void(connection &)>;

    static void run_session(void *user, everlink_connection *handle) {
        connection session(handle);
        try {
            (*static_cast<session_function *>(user))(session);
        } catch (...) {
            everlink_start_close(handle, 1011, "");
        }
    }

    everlink_server *handle_ = nullptr;
};

} // namespace everlink

#endif
