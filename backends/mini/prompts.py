"""temporary: replaced by the Task renderer."""
import yaml, jinja2
doc=yaml.safe_load(open('/work/main/prompts/game24.yaml'))
env=jinja2.Environment(keep_trailing_newline=True,trim_blocks=True,lstrip_blocks=True)
T={k:env.from_string(v) for k,v in doc['prompts'].items()}
def render(name,**f): return T[name].render(**f)
