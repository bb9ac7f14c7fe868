/*
 * Stacks of C++: exceptions that pass frames whose destructors allocate, handlers
 * that allocate, thunks, and templates of the library calling back. Says nothing.
 */
#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

struct Noisy {
    std::string text;
    explicit Noisy(int depth) : text(40 + depth, 'x') {}
    ~Noisy() { std::vector<std::string> more(3, text + text); }
};

struct Base {
    virtual ~Base() {}
    virtual int work(int depth) = 0;
};

struct Other {
    virtual ~Other() {}
    virtual std::string name(int depth) { return std::string(60 + depth, 'n'); }
};

struct Both : Base, Other {
    int work(int depth) override;
    std::string name(int depth) override { return std::string(70 + depth, 'b') + Other::name(depth); }
};

static int descend(int depth)
{
    Noisy noisy(depth);
    std::unique_ptr<Both> both(new Both);
    if (depth == 0)
        throw std::runtime_error(both->name(3));
    return both->work(depth - 1) + (int)noisy.text.size();
}

int Both::work(int depth)
{
    try {
        return descend(depth);
    } catch (const std::logic_error &) {
        return 0;
    } catch (const std::runtime_error &error) {
        std::string said = std::string("handled: ") + error.what();
        if (depth % 4 == 3)
            return (int)said.size();
        throw;
    }
}

int main()
{
    std::map<std::string, std::function<int(int)>> kinds;
    kinds["descend"] = [](int depth) {
        try {
            return descend(depth);
        } catch (const std::exception &error) {
            return (int)std::string(error.what()).size();
        }
    };
    kinds["sort"] = [](int depth) {
        std::vector<std::string> words;
        for (int i = 0; i < 20 + depth; i++)
            words.push_back(std::string(30, (char)('a' + (i * 7) % 26)));
        std::stable_sort(words.begin(), words.end(), [](const std::string &a, const std::string &b) {
            return a + std::string(20, 'z') < b + std::string(20, 'z');
        });
        return (int)words.size();
    };
    int sum = 0;
    for (int round = 0; round < 30; round++)
        for (auto &kind : kinds)
            sum += kind.second(round);
    return sum == 0;
}
