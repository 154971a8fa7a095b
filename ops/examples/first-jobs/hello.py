import json, os

rates = [1.0718, 1.0735, 1.0702]
with open(os.environ["CORDON_OUTPUT"] + "/rates.txt", "w") as file:
    file.writelines(f"{rate}\n" for rate in rates)
with open(os.environ["CORDON_RESULT"], "w") as file:
    json.dump({"mean": round(sum(rates) / len(rates), 4)}, file)
print("wrote", len(rates), "rates")
